"""A pair of models as denoisers at one noise level: errors, and the trace of the Jacobian."""

from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Any, NamedTuple

import torch
from torch import Tensor

from diffgen.commands.memorization.pair import Pair
from diffgen.metrics.intervals import mean_interval
from diffgen.metrics.jacobian import affine_residual, asymmetry, hutchinson, jacobian
from diffgen.metrics.memorisation import psnr, psnr_parts, squared_errors
from diffgen.metrics.wiener import Wiener
from diffgen.seeding import stream_generator

MODELS = (0, 1)
SIDES = ("train", "held_out")
Errors = dict[str, list[list[float]]]
"""Mean squared errors of each image, of either model: by what was denoised."""


class Level(NamedTuple):
    """What was found at one noise level."""

    figures: dict[str, Any]
    values: dict[str, Any]
    """Image by image."""
    jacobian: Tensor | None
    """(d, d) on the CPU, of the first model at the first held-out image; None: too large."""


def measure_level(pair: Pair, sigma: float, linear: tuple[Wiener, Wiener] | None) -> Level:
    """PSNR of both models with its interval, and dimensions of the first.

    ``linear``: the linear denoisers of both training sets; None: they are too large.
    """
    noise = sigma * pair.noise()
    errors = network_errors(pair, sigma, noise)
    if linear is not None:
        errors |= linear_errors(pair, sigma, noise, linear)
    dimension, traces, first = dimensions(pair, sigma, noise)
    figures: dict[str, Any] = {
        "sigma": sigma,
        "noisy": psnr(sigma**2),
        **{side: decibels(errors, side) for side in SIDES},
        "gap": decibels(errors, *SIDES),
        **{f"linear_{side}": decibels(errors, f"linear_{side}") for side in SIDES},
        "linear_gap": decibels(errors, *(f"linear_{side}" for side in SIDES)),
        "dimension": dimension,
        "linear_dimension": linear[0].effective_dimension(sigma) if linear else None,
    }
    return Level(figures, {"sigma": sigma, **errors, **traces}, first)


def network_errors(pair: Pair, sigma: float, noise: Tensor) -> Errors:
    """Of both models, on their own training images and on held-out ones."""

    def errors(model: int, x: Tensor) -> list[float]:
        denoise, size = pair.denoiser(model, sigma), pair.config.sampling.batch_size
        with torch.no_grad():
            parts = [denoise(y.to(pair.device)).cpu() for y in (x + noise).split(size)]
        return as_list(squared_errors(torch.cat(parts), x))

    return {
        "train": [errors(m, pair.repeated(m)) for m in MODELS],
        "held_out": [errors(m, pair.held_out) for m in MODELS],
    }


def linear_errors(pair: Pair, sigma: float, noise: Tensor, linear: tuple[Wiener, Wiener]) -> Errors:
    """The same of their linear denoisers."""

    def errors(model: int, x: Tensor) -> list[float]:
        return as_list(squared_errors(linear[model](x + noise, sigma), x))

    return {
        "linear_train": [errors(m, pair.repeated(m)) for m in MODELS],
        "linear_held_out": [errors(m, pair.held_out) for m in MODELS],
    }


def decibels(errors: Errors, name: str, less: str | None = None) -> dict[str, Any] | None:
    """PSNR of pixels in [-1, 1], or how far it is above that of ``less``, with its 95 % interval.

    An image counts by the mean of both models' errors. In a difference images go in pairs, which
    share their noise. None where there is no error, as a linear denoiser of one image makes none
    on it, and where nothing was measured.
    """
    parts = image_parts(errors, name)
    if less is not None and parts is not None:
        others = image_parts(errors, less)
        parts = None if others is None else differences(parts, others)
    if parts is None:
        return None
    return {"psnr": fmean(parts), "interval": mean_interval(parts)}


def image_parts(errors: Errors, name: str) -> list[float] | None:
    """``psnr_parts`` of each image's mean over both models; None: there is no error."""
    if name not in errors:
        return None
    squared = [fmean(both) for both in zip(*errors[name], strict=True)]
    return psnr_parts(squared) if any(squared) else None


def differences(first: Sequence[float], second: Sequence[float]) -> list[float]:
    """first - second, one by one."""
    return [a - b for a, b in zip(first, second, strict=True)]


def dimensions(
    pair: Pair, sigma: float, noise: Tensor
) -> tuple[dict[str, Any], dict[str, list[float]], Tensor | None]:
    """Effective dimension of the first model on noisy held-out images.

    Returns:
        Means over the images with their standard errors, the traces of each image, and the
        Jacobian at the first one, on the CPU; None where it is too large.
    """
    config, denoise = pair.config, pair.denoiser(0, sigma)
    size = config.sampling.batch_size
    images = [(pair.held_out[k] + noise[k]).to(pair.device) for k in range(config.jacobians)]
    streams = [stream_generator(config.seed, "probes", k) for k in range(len(images))]
    estimates = [
        hutchinson(denoise, y, config.probes, stream, size)
        for y, stream in zip(images, streams, strict=True)
    ]
    values = {"estimated_traces": [one.mean for one in estimates]}
    found: dict[str, Any] = dict.fromkeys(("exact", "exact_error"))
    found["estimated"] = fmean(values["estimated_traces"])
    found["estimated_error"] = standard_error(values["estimated_traces"])
    found["probe_error"] = sum(one.error**2 for one in estimates) ** 0.5 / len(estimates)
    found |= dict.fromkeys(("asymmetry", "affine_residual"))
    if not pair.small:
        return found, values, None
    matrices = [jacobian(denoise, y, size) for y in images]
    with torch.no_grad():
        outputs = [denoise(y[None])[0] for y in images]
    values["traces"] = [float(matrix.trace()) for matrix in matrices]
    found["exact"] = fmean(values["traces"])
    found["exact_error"] = standard_error(values["traces"])
    found["asymmetry"] = fmean(map(asymmetry, matrices))
    found["affine_residual"] = fmean(map(affine_residual, matrices, images, outputs))
    return found, values, matrices[0].cpu()


def standard_error(values: Sequence[float]) -> float | None:
    """Of the mean of independent values; None for a single one."""
    return stdev(values) / len(values) ** 0.5 if len(values) > 1 else None


def as_list(values: Tensor) -> list[float]:
    """A column of numbers."""
    found: list[float] = values.tolist()
    return found

"""A pair of models as denoisers at one noise level: errors, and the trace of the Jacobian."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from diffgen.commands.memorization.pair import Pair
from diffgen.metrics.jacobian import affine_residual, asymmetry, hutchinson, jacobian
from diffgen.metrics.memorisation import psnr
from diffgen.metrics.wiener import Wiener
from diffgen.seeding import stream_generator

MODELS = (0, 1)


def level_figures(pair: Pair, sigma: float, linear: tuple[Wiener, Wiener] | None) -> dict[str, Any]:
    """PSNR [dB] of the mean squared error of both models, and dimensions of the first.

    ``linear``: the linear denoisers of both training sets; None: they are too large.
    """
    noise, new = sigma * pair.noise(), pair.held_out
    seen = [pair.repeated(model) for model in MODELS]
    train = mean(error(pair, m, sigma, seen[m], noise) for m in MODELS)
    held_out = mean(error(pair, m, sigma, new, noise) for m in MODELS)
    found: dict[str, Any] = {
        "sigma": sigma,
        "noisy": decibels(sigma**2),
        "train": decibels(train),
        "held_out": decibels(held_out),
        "linear_train": None,
        "linear_held_out": None,
        "dimension": dimensions(pair, sigma, noise),
        "linear_dimension": None,
    }
    if linear is not None:
        train = mean(squared(linear[m](seen[m] + noise, sigma), seen[m]) for m in MODELS)
        held_out = mean(squared(linear[m](new + noise, sigma), new) for m in MODELS)
        found["linear_train"], found["linear_held_out"] = decibels(train), decibels(held_out)
        found["linear_dimension"] = linear[0].effective_dimension(sigma)
    return found


def error(pair: Pair, model: int, sigma: float, x: Tensor, noise: Tensor) -> float:
    """Mean squared error of a model that denoises ``x + noise``."""
    denoise, device = pair.denoiser(model, sigma), pair.pipes[model].device
    with torch.no_grad():
        parts = [
            denoise(y.to(device)).cpu() for y in (x + noise).split(pair.config.sampling.batch_size)
        ]
    return squared(torch.cat(parts), x)


def decibels(mean_squared_error: float) -> float | None:
    """PSNR of pixels in [-1, 1]; None where there is no error, as of a single training image."""
    return psnr(mean_squared_error) if mean_squared_error else None


def squared(found: Tensor, x: Tensor) -> float:
    """Mean squared error over all pixels."""
    return float((found - x).double().square().mean())


def mean(values: Iterable[float]) -> float:
    """Of one value or more."""
    every = list(values)
    return sum(every) / len(every)


def dimensions(pair: Pair, sigma: float, noise: Tensor) -> dict[str, Any]:
    """Effective dimension of the first model on noisy held-out images, means over them.

    The error of the estimate is that of its probes alone, not of the choice of images.
    """
    config, denoise, device = pair.config, pair.denoiser(0, sigma), pair.pipes[0].device
    size = config.sampling.batch_size
    images = [(pair.held_out[k] + noise[k]).to(device) for k in range(config.jacobians)]
    streams = [stream_generator(config.seed, "probes", k) for k in range(len(images))]
    estimates = [
        hutchinson(denoise, y, config.probes, stream, size)
        for y, stream in zip(images, streams, strict=True)
    ]
    found: dict[str, Any] = {
        "hutchinson": mean(one.mean for one in estimates),
        "hutchinson_error": sum(one.error**2 for one in estimates) ** 0.5 / len(estimates),
    }
    if not pair.small:
        return {"exact": None, **found, "asymmetry": None, "affine_residual": None}
    matrices = [jacobian(denoise, y, size) for y in images]
    with torch.no_grad():
        outputs = [denoise(y[None])[0] for y in images]
    each = list(zip(matrices, images, outputs, strict=True))
    return {
        "exact": mean(float(matrix.trace()) for matrix in matrices),
        **found,
        "asymmetry": mean(asymmetry(matrix) for matrix in matrices),
        "affine_residual": mean(affine_residual(*three) for three in each),
    }

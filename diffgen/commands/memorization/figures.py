"""The figures of a pair of models: agreement, nearness to the training images, denoising."""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from diffgen.commands.memorization.levels import MODELS, as_list, measure_level
from diffgen.commands.memorization.pair import Pair
from diffgen.commands.memorization.pictures import middle
from diffgen.config.memorization import WHICH
from diffgen.data.pixels import from_uint8, to_uint8
from diffgen.metrics.intervals import wilson
from diffgen.metrics.memorisation import correlation, memorised, nearest_correlation
from diffgen.metrics.wiener import Wiener, fit_wiener
from diffgen.seeding import image_noise


class Measured(NamedTuple):
    """What was found, and the images that show it."""

    figures: dict[str, Any]
    values: dict[str, Any]
    """What the figures sum up, image by image."""
    samples: tuple[Tensor, Tensor]
    """(num_images, 3, H, W) fp32 in [-1, 1], of either model from the same noise."""
    nearest: Tensor
    """For each sample of the first model, its training image that is most alike."""
    jacobian: Tensor | None
    """(d, d), of the first model at the first held-out image and the middle noise level."""


def measure(pair: Pair) -> Measured:
    """Every figure of a pair."""
    linear = (fit_wiener(pair.training[0]), fit_wiener(pair.training[1])) if pair.small else None
    drawn, config = (pair.draw(0), pair.draw(1)), pair.config
    found = [nearest_correlation(drawn[m], pair.training[m]) for m in MODELS]
    queries = pair.training[0][: config.num_images]
    bar = tqdm(config.levels(), desc="noise levels", unit="level", leave=False)
    levels = {sigma: measure_level(pair, sigma, linear) for sigma in bar}
    copies = [copied(drawn[m], pair.training[m]) for m in MODELS]
    held_out_copies = copied(pair.held_out, pair.training[0])
    values: dict[str, Any] = {
        "agreement": as_list(correlation(*drawn)),
        "nearest_own": [as_list(alike) for alike, _ in found],
        "control": as_list(nearest_correlation(queries, pair.training[1])[0]),
        "linear_agreement": as_list(linear_agreement(pair, linear)) if linear else None,
        "memorised": copies,
        "memorised_held_out": held_out_copies,
        "levels": [level.values for level in levels.values()],
    }
    figures = {
        "agreement": spread(values["agreement"]),
        "nearest_own": spread([alike for one in values["nearest_own"] for alike in one]),
        "control": spread(values["control"]),
        "linear_agreement": spread(values["linear_agreement"]) if linear else None,
        "memorised": {which: share(one) for which, one in zip(WHICH, copies, strict=True)},
        "memorised_held_out": share(held_out_copies),
        "levels": [level.figures for level in levels.values()],
    }
    nearest = pair.training[0][found[0][1]]
    return Measured(figures, values, drawn, nearest, levels[middle(config.levels())].jacobian)


def spread(values: list[float]) -> dict[str, float]:
    """Median, and where 90 % of the values lie."""
    shares = torch.tensor([0.05, 0.5, 0.95]).double()
    low, median, high = torch.quantile(torch.tensor(values).double(), shares)
    return {"median": float(median), "low": float(low), "high": float(high)}


def linear_agreement(pair: Pair, linear: tuple[Wiener, Wiener]) -> Tensor:
    """The agreement of what both linear denoisers draw from the same noise as the models.

    Their draws too become 8-bit pictures, which clips them.
    """
    numbers, shape = list(range(pair.config.num_images)), tuple(pair.held_out.shape[1:])
    noise = image_noise(pair.config.seed, numbers, shape)
    first, second = (from_uint8(to_uint8(one.draw(noise))) for one in linear)
    return correlation(first, second)


def copied(images: Tensor, references: Tensor) -> list[bool] | None:
    """Which images are ``memorised``; None: there is one reference alone."""
    if len(references) < 2:
        return None
    flags: list[bool] = memorised(images, references).tolist()
    return flags


def share(flags: list[bool] | None) -> dict[str, Any] | None:
    """Of images that are copies, with its 95 % interval."""
    if flags is None:
        return None
    hits, count = sum(flags), len(flags)
    return {"share": hits / count, "interval": wilson(hits, count), "hits": hits, "count": count}

"""The figures of a pair of models: agreement, nearness to the training images, denoising."""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from diffgen.commands.memorization.levels import level_figures
from diffgen.commands.memorization.pair import Pair
from diffgen.metrics.intervals import wilson
from diffgen.metrics.memorisation import correlation, memorised, nearest_correlation
from diffgen.metrics.wiener import Wiener, fit_wiener
from diffgen.seeding import image_noise


class Measured(NamedTuple):
    """What was found, and the images that show it."""

    figures: dict[str, Any]
    samples: tuple[Tensor, Tensor]
    """(num_images, 3, H, W) fp32 in [-1, 1], of either model from the same noise."""
    nearest: Tensor
    """For each sample of the first model, its training image that is most alike."""


def measure(pair: Pair) -> Measured:
    """Every figure of a pair."""
    linear = (fit_wiener(pair.training[0]), fit_wiener(pair.training[1])) if pair.small else None
    drawn = (pair.draw(0), pair.draw(1))
    found = [nearest_correlation(x, y) for x, y in zip(drawn, pair.training, strict=True)]
    queries = pair.training[0][: pair.config.num_images]
    levels = tqdm(pair.config.levels(), desc="noise levels", unit="level", leave=False)
    figures = {
        "agreement": spread(correlation(*drawn)),
        "nearest_own": spread(torch.cat([values for values, _ in found])),
        "control": spread(nearest_correlation(queries, pair.training[1])[0]),
        "linear_agreement": linear_agreement(pair, linear) if linear else None,
        "memorised": memorised_share(list(zip(drawn, pair.training, strict=True))),
        "memorised_held_out": memorised_share([(pair.held_out, pair.training[0])]),
        "levels": [level_figures(pair, sigma, linear) for sigma in levels],
    }
    return Measured(figures, drawn, pair.training[0][found[0][1]])


def spread(values: Tensor) -> dict[str, float]:
    """Median, and where 90 % of the values lie."""
    low, median, high = torch.quantile(values.double(), torch.tensor([0.05, 0.5, 0.95]).double())
    return {"median": float(median), "low": float(low), "high": float(high)}


def linear_agreement(pair: Pair, linear: tuple[Wiener, Wiener]) -> dict[str, float]:
    """The agreement of what both linear denoisers draw from the same noise as the models."""
    numbers, shape = list(range(pair.config.num_images)), tuple(pair.held_out.shape[1:])
    noise = image_noise(pair.config.seed, numbers, shape)
    return spread(correlation(linear[0].draw(noise), linear[1].draw(noise)))


def memorised_share(sets: list[tuple[Tensor, Tensor]]) -> dict[str, Any] | None:
    """Share of images that are ``memorised``, over all sets; None with one training image."""
    if min(len(references) for _, references in sets) < 2:
        return None
    flags = torch.cat([memorised(images, references) for images, references in sets])
    hits, count = int(flags.sum()), len(flags)
    return {"share": hits / count, "interval": wilson(hits, count), "count": count}

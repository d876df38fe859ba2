"""Do samples repeat their training images, and do two models agree? (Kadkhodaie et al. 2024)

Two models of disjoint training sets draw from the same noise. Where they have memorised, every
sample is a training image and the two differ; where they have learned the distribution, the two
samples are alike and far from both training sets. Images are compared as they are, pixel by pixel.
"""

import math
from collections.abc import Sequence
from statistics import fmean

import torch
from torch import Tensor

from diffgen.metrics.nearest import RATIO, much_nearer, nearest


def correlation(first: Tensor, second: Tensor) -> Tensor:
    """Cosine of each pair of images after each image's mean is taken off (Pearson).

    Args:
        first, second: (N, ...) floating, in pairs.

    Returns:
        (N,) float64 in [-1, 1]; 0 where an image is constant.

    Raises:
        ValueError: their shapes differ.
    """
    if first.shape != second.shape:
        raise ValueError(
            f"images must come in pairs, got {tuple(first.shape)} and {tuple(second.shape)}"
        )
    return (centred(first) * centred(second)).sum(1)


def nearest_correlation(
    images: Tensor, references: Tensor, block_size: int = 2048
) -> tuple[Tensor, Tensor]:
    """The largest ``correlation`` of each image with any reference, and which one it is.

    Args:
        images: (N, ...) floating.
        references: (M, ...) of the same shape but for their number.
        block_size: references compared at a time.

    Returns:
        (N,) float64 and (N,) int64; of equal references the first.
    """
    rows = centred(images)
    best = torch.full((len(rows),), -math.inf, dtype=torch.float64, device=rows.device)
    which = torch.zeros(len(rows), dtype=torch.int64, device=rows.device)
    for start in range(0, len(references), block_size):
        block = centred(references[start : start + block_size])
        found, place = (rows @ block.T).max(1)
        better = found > best
        best = torch.where(better, found, best)
        which = torch.where(better, place + start, which)
    return best, which


def centred(images: Tensor) -> Tensor:
    """(N, ...) -> (N, D) float64 rows of mean 0 and length 1; 0 for a constant image."""
    rows = images.flatten(1).double()
    rows = rows - rows.mean(1, keepdim=True)
    size = rows.norm(dim=1, keepdim=True)
    rounding = 1e-6 * rows.shape[1] ** 0.5  # pixels are in about [-1, 1]
    return torch.where(size > rounding, rows / size.clamp(min=rounding), 0.0)


def memorised(images: Tensor, references: Tensor, ratio: float = RATIO) -> Tensor:
    """(N,) bool: an image is nearer to one reference than ``ratio`` times to any other.

    ``nearest.much_nearer`` of pixels: a convention, whose origin is unverified here. A reference
    that occurs twice hides its copies, since both distances are equal.

    Raises:
        ValueError: fewer than 2 references.
    """
    distances, _ = nearest(images.flatten(1), references.flatten(1), 2)
    return much_nearer(distances, ratio)


def squared_errors(found: Tensor, images: Tensor) -> Tensor:
    """Mean squared error of each image over its pixels: (N, ...) twice -> (N,) float64."""
    return (found - images).flatten(1).double().square().mean(1)


def psnr(mean_squared_error: float, value_range: float = 2.0) -> float:
    """Peak signal-to-noise ratio 10 log10(range^2 / MSE) [dB]; infinite for no error.

    ``value_range``: largest less smallest value of a pixel; 2 for [-1, 1].
    """
    if mean_squared_error == 0:
        return math.inf
    return 10 * math.log10(value_range**2 / mean_squared_error)


def psnr_parts(squared: Sequence[float], value_range: float = 2.0) -> list[float]:
    """What each image adds to the PSNR of the mean of their squared errors e [dB].

    psnr(mean e) - 10 / ln 10 (e / mean e - 1), the first order in each error: the mean of these is
    the PSNR itself, and their spread gives its standard error (the delta method).

    Args:
        squared: mean squared error of each image; not all of them 0.
        value_range: as for ``psnr``.

    Raises:
        ValueError: there is no error at all, whose PSNR is infinite.
    """
    mean = fmean(squared)
    if mean == 0:
        raise ValueError("squared: an error of 0 has no finite PSNR")
    level, slope = psnr(mean, value_range), 10 / math.log(10)
    return [level - slope * (one / mean - 1) for one in squared]

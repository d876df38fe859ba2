"""Do samples repeat their training images, and do two models agree? (Kadkhodaie et al. 2024)

Two models of disjoint training sets draw from the same noise. Where they have memorised, every
sample is a training image and the two differ; where they have learned the distribution, the two
samples are alike and far from both training sets. Images are compared as they are, pixel by pixel.
"""

import math

import torch
from torch import Tensor

from diffgen.metrics.nearest import RATIO, nearest


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

    d(x, nearest) < d(x, second nearest) / 3 is a convention, whose origin is unverified here. A
    reference that occurs twice hides its copies, since both distances are equal.

    Raises:
        ValueError: fewer than 2 references.
    """
    distances, _ = nearest(images.flatten(1), references.flatten(1), 2)
    first, second = distances.unbind(1)
    return first < ratio * second


def psnr(mean_squared_error: float, value_range: float = 2.0) -> float:
    """Peak signal-to-noise ratio 10 log10(range^2 / MSE) [dB]; infinite for no error.

    ``value_range``: largest less smallest value of a pixel; 2 for [-1, 1].
    """
    if mean_squared_error == 0:
        return math.inf
    return 10 * math.log10(value_range**2 / mean_squared_error)

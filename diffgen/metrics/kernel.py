"""Maximum mean discrepancies: distances of two feature sets by the means of a kernel.

    MMD²(P, Q) = E k(x, x') + E k(y, y') - 2 E k(x, y),    x, x' ~ P, y, y' ~ Q

`kernel_distance` is KID (Binkowski et al. 2018): cubic polynomial kernel, unbiased estimate.
`cmmd` is CMMD (Jayasumana et al. 2024): Gaussian kernel, biased estimate. Both use every pair of
samples, in float64 and block by block: memory is a few block_size x max(block_size, D) numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from diffgen.metrics.frechet import check_features
from diffgen.metrics.jackknife import deal, jackknife
from diffgen.metrics.manifold import squared_distances

Kernel = Callable[[Tensor, Tensor], Tensor]  # (N, D), (M, D) float64 -> (N, M)

NUM_GROUPS = 20  # of a jackknife, where the caller has none


@torch.no_grad()
def kernel_distance(real: Tensor, fake: Tensor, *, block_size: int = 2048) -> float:
    """KID: the unbiased MMD² with the kernel (x.y / D + 1)³, over all samples.

    The mean over i != j within each set and over all pairs across. Other tools average the same
    estimate over random subsets, which adds noise and has the same expectation.

    Args:
        real: (N, D) floating features, N >= 2.
        fake: (M, D) floating features on the same device, M >= 2.
        block_size: rows per side of a block of the kernel matrix.

    Returns:
        The squared discrepancy, without the factor 1000 some tables carry. Negative values are
        valid: the estimate scatters about 0 where the distributions are equal.

    Raises:
        ValueError: fewer than 2 rows, different D, a shape or dtype other than above, NaN,
            block_size below 1.
    """
    _check(real, fake, block_size)
    between = _sum_between(_cubic, real, fake, block_size)
    distance = -2 * between / (len(real) * len(fake))
    for features in (real, fake):
        apart, _ = _sums_within(_cubic, features, block_size)
        distance += apart / (len(features) * (len(features) - 1))
    return distance


@dataclass(frozen=True)
class KernelFigures:
    """KID and its uncertainty over the fakes, the reals held fixed."""

    value: float
    standard_error: float
    interval: tuple[float, float]
    """95 %, about `value`."""


@torch.no_grad()
def kernel_distance_interval(
    real: Tensor, fake: Tensor, groups: Tensor | None = None, *, block_size: int = 2048
) -> KernelFigures:
    """`kernel_distance` with a 95 % interval over the fakes, by a delete-a-group jackknife.

    Kernel sums within and across groups are taken once; every replicate is made of them. The
    spread over overlapping random subsets, which other tools print, is no standard error. In
    trials with normal features in 2 to 32 dimensions, 400 a side, it held the expected distance
    in 94 to 98 % of draws, in one dimension in 83 to 92 %.

    Args:
        real: (N, D) floating features, N >= 2.
        fake: (M, D) floating features on the same device, M >= 4.
        groups: (M,) int64 group of each fake, at least two different ones, each leaving 2 fakes;
            None: deal them out at random into 20, or M // 2.
        block_size: as `kernel_distance`'s.

    Raises:
        ValueError: groups of another shape or number, and as `kernel_distance`.
    """
    _check(real, fake, block_size)
    if groups is None:
        groups = deal(len(fake), max(2, min(NUM_GROUPS, len(fake) // 2)))
    if tuple(groups.shape) != (len(fake),):
        raise ValueError(f"groups must be ({len(fake)},), got {tuple(groups.shape)}")
    groups = groups.to(fake.device)
    parts = [fake[groups == number] for number in groups.unique()]
    if len(parts) < 2 or len(fake) - max(map(len, parts)) < 2:
        raise ValueError("groups must be at least 2, each leaving 2 fakes")
    across = [_sum_between(_cubic, real, part, block_size) for part in parts]
    within = [[0.0] * len(parts) for _ in parts]
    for i, part in enumerate(parts):
        within[i][i] = _sums_within(_cubic, part, block_size)[0]
        for j in range(i):
            within[i][j] = within[j][i] = _sum_between(_cubic, part, parts[j], block_size)
    reals = _sums_within(_cubic, real, block_size)[0] / (len(real) * (len(real) - 1))

    def distance(left_out: int | None = None) -> float:
        kept = [k for k in range(len(parts)) if k != left_out]
        count = sum(len(parts[k]) for k in kept)
        fakes = math.fsum(within[i][j] for i in kept for j in kept) / (count * (count - 1))
        return reals + fakes - 2 * math.fsum(across[k] for k in kept) / (len(real) * count)

    value, shares = distance(), [len(part) / len(fake) for part in parts]
    found = jackknife(value, [distance(k) for k in range(len(parts))], shares)
    return KernelFigures(value, found.standard_error, found.interval(value))


@torch.no_grad()
def cmmd(
    real: Tensor,
    fake: Tensor,
    *,
    sigma: float = 10.0,
    scale: float = 1000.0,
    block_size: int = 2048,
) -> float:
    """CMMD as its released code computes it: biased MMD² of normalised embeddings, times 1000.

    Rows are divided by their Euclidean length; k(x, y) = exp(-|x - y|² / (2 sigma²)); the means
    within a set include each row with itself, so equal distributions give a positive figure of
    order 1/N + 1/M. The released code works in float32, which leaves it about 1e-4 of noise.

    Args:
        real: (N, D) floating image embeddings, N >= 2 (the published figures: CLIP ViT-L/14 at
            336 pixels).
        fake: (M, D) floating embeddings on the same device, M >= 2.
        sigma: width of the kernel, above 0, in units of the normalised embeddings.
        scale: factor on the result.
        block_size: rows per side of a block of the kernel matrix.

    Raises:
        ValueError: a row of zeros, sigma not above 0, and as `kernel_distance`.
    """
    _check(real, fake, block_size)
    if not sigma > 0:
        raise ValueError(f"sigma must be above 0, got {sigma}")
    for name, features in (("real", real), ("fake", fake)):
        if not features.any(1).all():
            raise ValueError(f"{name} holds a row of zeros, which has no direction")

    def gaussian(first: Tensor, second: Tensor) -> Tensor:
        first, second = (rows / rows.norm(dim=1, keepdim=True) for rows in (first, second))
        return squared_distances(first, second).mul_(-0.5 / sigma**2).exp_()

    distance = -2 * _sum_between(gaussian, real, fake, block_size) / (len(real) * len(fake))
    for features in (real, fake):
        distance += sum(_sums_within(gaussian, features, block_size)) / len(features) ** 2
    return scale * distance


def _cubic(first: Tensor, second: Tensor) -> Tensor:
    return (first @ second.T).div_(first.shape[1]).add_(1).pow_(3)


def _sum_between(kernel: Kernel, first: Tensor, second: Tensor, block_size: int) -> float:
    """Sum of k(x_i, y_j) over all pairs."""
    return math.fsum(
        kernel(rows.double(), columns.double()).sum().item()
        for rows in first.split(block_size)
        for columns in second.split(block_size)
    )


def _sums_within(kernel: Kernel, features: Tensor, block_size: int) -> tuple[float, float]:
    """Sums of k(x_i, x_j) over i != j and over i = j; k is symmetric, so half the blocks do."""
    apart, itself = [], []
    blocks = features.split(block_size)
    for i, rows in enumerate(blocks):
        block = kernel(rows.double(), rows.double())
        itself.append(block.trace().item())
        apart.append(block.fill_diagonal_(0).sum().item())
        for columns in blocks[i + 1 :]:
            apart.append(2 * kernel(rows.double(), columns.double()).sum().item())
    return math.fsum(apart), math.fsum(itself)


def _check(real: Tensor, fake: Tensor, block_size: int) -> None:
    check_features("real", real)
    check_features("fake", fake, num_features=real.shape[1])
    if block_size < 1:
        raise ValueError(f"block_size must be at least 1, got {block_size}")

"""Maximum mean discrepancies: distances of two feature sets by the means of a kernel.

    MMD²(P, Q) = E k(x, x') + E k(y, y') - 2 E k(x, y),    x, x' ~ P, y, y' ~ Q

`kernel_distance` is KID (Binkowski et al. 2018): cubic polynomial kernel, unbiased estimate.
`cmmd` is CMMD (Jayasumana et al. 2024): Gaussian kernel, biased estimate. Both use every pair of
samples, in float64 and block by block: memory is a few block_size x max(block_size, D) numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from diffgen.metrics.frechet import check_features
from diffgen.metrics.intervals import mean_interval
from diffgen.metrics.manifold import squared_distances

Kernel = Callable[[Tensor, Tensor], Tensor]  # (N, D), (M, D) float64 -> (N, M)

ROWS_PER_BLOCK = 100  # an interval's blocks have at least this many rows of each set
MOST_BLOCKS = 50


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


@torch.no_grad()
def kernel_distance_interval(
    real: Tensor,
    fake: Tensor,
    blocks: int | None = None,
    *,
    value: float | None = None,
    block_size: int = 2048,
) -> tuple[float, float] | None:
    """95 % interval of `kernel_distance`, centred at it.

    Both sets are cut into B disjoint blocks of equal size, and the width is that of Student's t
    interval for the mean of the B blocks' distances. Disjoint blocks are independent, so their
    spread gives a standard error; that over overlapping random subsets, which other tools print,
    does not. The all-sample figure at the centre also uses the pairs across blocks and varies no
    more than the blocks' mean: the interval is about right where the distributions differ
    clearly, and too wide, by up to a factor sqrt(B), where they are equal.

    Rows go to blocks by a fixed permutation, so that files sorted by class, or with classes
    that recur at a fixed step, give blocks alike. Up to B - 1 rows of a set go to none.

    Args:
        real: (N, D) floating features.
        fake: (M, D) floating features on the same device.
        blocks: B, from 2 to min(N, M) // 2; None: as many as keep 100 rows of each set in a
            block, at most 50.
        value: `kernel_distance(real, fake)` where it is at hand; computed if None.
        block_size: as `kernel_distance`'s.

    Returns:
        (low, high); None if `blocks` is None and a set has fewer than 200 rows.

    Raises ValueError for `blocks` out of range and as `kernel_distance`.
    """
    _check(real, fake, block_size)
    fewest = min(len(real), len(fake))
    if blocks is None:
        blocks = min(MOST_BLOCKS, fewest // ROWS_PER_BLOCK)
        if blocks < 2:
            return None
    if not 2 <= blocks <= fewest // 2:
        raise ValueError(f"blocks must be from 2 to {fewest // 2}, got {blocks}")
    pairs = zip(_disjoint(real, blocks), _disjoint(fake, blocks), strict=True)
    low, high = mean_interval(
        [kernel_distance(real[one], fake[other], block_size=block_size) for one, other in pairs]
    )
    if value is None:
        value = kernel_distance(real, fake, block_size=block_size)
    return value - (high - low) / 2, value + (high - low) / 2


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


def _disjoint(features: Tensor, blocks: int) -> tuple[Tensor, ...]:
    """Row numbers of `blocks` disjoint blocks of equal size."""
    order = torch.randperm(len(features), generator=torch.Generator().manual_seed(0))
    size = len(features) // blocks
    return order[: size * blocks].to(features.device).split(size)


def _check(real: Tensor, fake: Tensor, block_size: int) -> None:
    check_features("real", real)
    check_features("fake", fake, num_features=real.shape[1])
    if block_size < 1:
        raise ValueError(f"block_size must be at least 1, got {block_size}")

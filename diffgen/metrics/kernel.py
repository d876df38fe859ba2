"""Maximum mean discrepancies: distances of two feature sets by the means of a kernel.

    MMD²(P, Q) = E k(x, x') + E k(y, y') - 2 E k(x, y),    x, x' ~ P, y, y' ~ Q

`kernel_distance` is KID (Binkowski et al. 2018): cubic polynomial kernel, unbiased estimate.
`cmmd` is CMMD (Jayasumana et al. 2024): Gaussian kernel, biased estimate. Both use every pair of
samples; see `kernel_sums`. Their intervals over the fakes are by the delete-a-group jackknife.
"""

from __future__ import annotations

import torch
from torch import Tensor

from diffgen.metrics.balls import squared_distances
from diffgen.metrics.intervals import Estimate
from diffgen.metrics.jackknife import LEAST_ROWS, Groups, jackknife
from diffgen.metrics.kernel_sums import Discrepancy, Kernel
from diffgen.metrics.moments import check_features

SIGMA, SCALE = 10.0, 1000.0  # of CMMD's released code


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
    return Discrepancy.of(_cubic, real, [fake], block_size).unbiased()


@torch.no_grad()
def kernel_distance_interval(
    real: Tensor, fake: Tensor, groups: Tensor | None = None, *, block_size: int = 2048
) -> Estimate:
    """`kernel_distance` with a 95 % interval over the fakes, the reals held fixed.

    Kernel sums within and across groups are taken once; every replicate is made of them. The
    spread over overlapping random subsets, which other tools print, is no standard error. In
    trials with normal features in 2 to 32 dimensions, 400 a side, it held the expected distance
    in 94 to 98 % of draws, in one dimension in 83 to 92 %.

    Args:
        real: (N, D) floating features, N >= 2.
        fake: (M, D) floating features on the same device, M >= 4.
        groups: (M,) int64 group of each fake, at least two different ones, each leaving 2 fakes;
            None: deal them out at random (`jackknife.deal`).
        block_size: as `kernel_distance`'s.

    Raises:
        ValueError: groups of another shape or number, and as `kernel_distance`.
    """
    _check(real, fake, block_size, least=LEAST_ROWS)
    return _jackknifed(_cubic, real, fake, groups, block_size, biased=False)


@torch.no_grad()
def cmmd(
    real: Tensor,
    fake: Tensor,
    *,
    sigma: float = SIGMA,
    scale: float = SCALE,
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
    _check_directions(real, fake)
    kernel = _gaussian(sigma)
    return scale * Discrepancy.of(kernel, real, [fake], block_size).biased()


@torch.no_grad()
def cmmd_interval(
    real: Tensor,
    fake: Tensor,
    groups: Tensor | None = None,
    *,
    sigma: float = SIGMA,
    scale: float = SCALE,
    block_size: int = 2048,
) -> Estimate:
    """`cmmd` with a 95 % interval over the fakes, as `kernel_distance_interval`.

    It is about the figure at this number of fakes: the bias of order 1/N + 1/M is not in it. In
    trials with normal embeddings in 8 dimensions, 200 a side, it held the expected figure in 96 to
    98 % of 300 draws.

    Args:
        real, sigma, scale, block_size: as `cmmd`'s.
        fake, groups: as `kernel_distance_interval`'s.

    Raises:
        ValueError: as `cmmd` and `kernel_distance_interval`.
    """
    _check(real, fake, block_size, least=LEAST_ROWS)
    _check_directions(real, fake)
    kernel = _gaussian(sigma)
    return _jackknifed(kernel, real, fake, groups, block_size, biased=True, scale=scale)


def _jackknifed(
    kernel: Kernel,
    real: Tensor,
    fake: Tensor,
    groups: Tensor | None,
    block_size: int,
    *,
    biased: bool,
    scale: float = 1.0,
) -> Estimate:
    dealt = Groups.of(groups, len(fake))
    number = dealt.number.to(fake.device)
    parts = [fake[number == g] for g in range(len(dealt.sizes))]
    found = Discrepancy.of(kernel, real, parts, block_size)
    distance = found.biased if biased else found.unbiased
    replicates = [scale * distance(g) for g in range(len(parts))]
    return jackknife(scale * distance(), replicates, dealt.shares).estimate()


def _cubic(first: Tensor, second: Tensor) -> Tensor:
    return (first @ second.T).div_(first.shape[1]).add_(1).pow_(3)


def _gaussian(sigma: float) -> Kernel:
    if not sigma > 0:
        raise ValueError(f"sigma must be above 0, got {sigma}")

    def kernel(first: Tensor, second: Tensor) -> Tensor:
        first, second = (rows / rows.norm(dim=1, keepdim=True) for rows in (first, second))
        return squared_distances(first, second).mul_(-0.5 / sigma**2).exp_()

    return kernel


def _check(real: Tensor, fake: Tensor, block_size: int, *, least: int = 2) -> None:
    check_features("real", real)
    check_features("fake", fake, num_features=real.shape[1], least=least)
    if block_size < 1:
        raise ValueError(f"block_size must be at least 1, got {block_size}")


def _check_directions(real: Tensor, fake: Tensor) -> None:
    for name, features in (("real", real), ("fake", fake)):
        if not features.any(1).all():
            raise ValueError(f"{name} holds a row of zeros, which has no direction")

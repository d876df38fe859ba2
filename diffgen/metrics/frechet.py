"""Fréchet distance between two sets of features, seen as Gaussians (Heusel et al. 2017, eq. 6).

    d² = |mu_1 - mu_2|² + tr S_1 + tr S_2 - 2 tr (S_1 S_2)^{1/2}

The last trace is the nuclear norm of S_1^{1/2} S_2^{1/2}, so no matrix square root is formed.
With S_1 = L L^T it is the sum of square roots of the eigenvalues of L^T S_2 L, a symmetric
matrix: real by construction, unlike the eigenvalues of S_1 S_2. Covariances are unbiased (N - 1).
"""

from __future__ import annotations

import torch
from torch import Tensor

from diffgen.metrics.gaussian import Gaussian
from diffgen.metrics.moments import (
    ROWS_AT_ONCE,
    Moments,
    MomentsAccumulator,
    check_features,
    moments,
    moments_from_sums,
)

__all__ = [
    "ROWS_AT_ONCE",
    "Moments",
    "MomentsAccumulator",
    "check_features",
    "distance",
    "frechet_distance",
    "frechet_from_moments",
    "moments",
    "moments_from_sums",
]


def frechet_distance(real: Tensor, fake: Tensor) -> float:
    """Fréchet distance between two feature sets.

    Args:
        real: (N, D) floating features, N >= 2; arithmetic is float64 whatever the dtype.
        fake: (M, D) floating features on the same device, M >= 2.

    Returns:
        The squared distance d², in squared feature units. Not clipped: equal sets may give a
        tiny negative number, which says how exact the figure is.

    Raises:
        ValueError: fewer than 2 rows, different D, a shape or dtype other than above, NaN.
    """
    check_features("real", real)
    check_features("fake", fake, num_features=real.shape[1])
    return distance(Gaussian.of(real), Gaussian.of(fake))


def frechet_from_moments(first: Moments, second: Moments) -> float:
    """Fréchet distance between two Gaussians, for stored statistics; symmetric up to rounding.

    Returns d² as `frechet_distance` does. ValueError if the feature counts differ. Where counts
    tell the rank of a covariance, the eigenvalues beyond it are left out. Where they do not (dead
    or repeated features, repeated images, counts unknown) each leaves a root of about 1e-8 of the
    largest: prefer the features where they exist.
    """
    if first.mean.shape != second.mean.shape:
        raise ValueError(
            "feature counts differ: "
            f"{first.mean.shape[0]} in the first moments, {second.mean.shape[0]} in the second"
        )
    return distance(Gaussian(first), Gaussian(second))


def distance(first: Gaussian, second: Gaussian) -> float:
    """d² of two Gaussians of as many features: the one way that every Fréchet distance goes.

    The trace is that of `root_trace` where one covariance has full rank, and the other has too
    or is known by its moments alone. Otherwise (N <= D, dead or repeated features, repeated
    images) eigenvalues that should be 0 come out near 1e-16 and their square roots near 1e-8, so
    it is the nuclear norm of the product of two `Gaussian.root`s, without squaring.

    The first's factor is taken if it can be, so a side that stays should stand there: it then
    costs one eigvalsh of (D, D), else the singular values of a (k_1, k_2) matrix.
    """
    one, other = first.moments, second.moments
    gap = (one.mean - other.mean).square().sum()
    return float(gap + one.cov.trace() + other.cov.trace() - 2 * _trace(first, second))


def _trace(first: Gaussian, second: Gaussian) -> Tensor:
    """tr (S_1 S_2)^{1/2}, a scalar."""
    rank = min(first.moments.most_rank, second.moments.most_rank)
    for one, other in ((first, second), (second, first)):
        if one.factor is not None and (other.factor is not None or other.features is None):
            return root_trace(one.factor, other.moments.cov, rank)
    return torch.linalg.svdvals(first.root @ second.root.T).sum()


def root_trace(factor: Tensor, cov: Tensor, rank: int) -> Tensor:
    """tr (F F^T cov)^{1/2}, a scalar, by symmetric eigenvalues, of which the `rank` largest count.

    `factor` is F, (D, k) float64, `cov` (D, D) float64.
    """
    values = torch.linalg.eigvalsh(factor.T @ cov @ factor)  # ascending
    return values[-rank:].clamp(min=0).sqrt().sum()

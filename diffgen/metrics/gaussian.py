"""A feature set seen as a Gaussian, with the square roots of its covariance that a distance needs.

What depends on one set alone is computed once and kept, as the reference of many distances is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from diffgen.metrics.moments import Moments, moments


@dataclass(frozen=True, eq=False)
class Gaussian:
    """Moments, and square roots of the covariance, each computed when first asked for.

    Attributes:
        moments: of D features.
        features: gives the (N, D) floating features the moments are of; None where only the
            moments are known. Called only where the covariance is not of full rank.
    """

    moments: Moments
    features: Callable[[], Tensor] | None = None

    @classmethod
    def of(cls, source: Tensor | Moments) -> Gaussian:
        """From (N, D) features or from stored moments; ValueError as `moments`."""
        if isinstance(source, Moments):
            return cls(source)
        return cls(moments(source), lambda: source)

    @cached_property
    def factor(self) -> Tensor | None:
        """L, (D, D), with L L^T the covariance; None unless it is of full numerical rank."""
        full = self.moments.most_rank == len(self.moments.mean)
        return cholesky_factor(self.moments.cov) if full else None

    @cached_property
    def root(self) -> Tensor:
        """R, (k, D), with R^T R the covariance, whatever its rank.

        From features, if there are any, nothing is squared. From moments alone see `eigen_root`.
        """
        if self.factor is not None:
            return self.factor.T
        if self.features is not None:
            return square_root(self.features().detach().double())
        return eigen_root(self.moments)


def cholesky_factor(cov: Tensor) -> Tensor | None:
    """L with L L^T = cov, both (D, D) float64; None unless cov has full numerical rank.

    The squared pivot over the variance is the share of a feature that the features before it
    do not explain, whatever its unit; at rounding level the feature is a combination of them.
    """
    factor, info = torch.linalg.cholesky_ex(cov)
    if info.item() != 0:
        return None
    unexplained = factor.diagonal().square() / cov.diagonal()
    return factor if unexplained.min() > len(cov) * torch.finfo(cov.dtype).eps else None


def square_root(features: Tensor) -> Tensor:
    """R, (min(N, D), D), with R^T R the covariance of (N, D) float64 `features`, never formed."""
    centred = (features - features.mean(0)) / (len(features) - 1) ** 0.5
    if len(features) <= features.shape[1]:
        return centred
    return torch.linalg.qr(centred, mode="r").R


def eigen_root(source: Moments) -> Tensor:
    """R, (k, D) float64 with k the largest possible rank, and R^T R the covariance.

    Eigenvalues below 0 are cut; those that should be 0 leave roots of about 1e-8 of the largest.
    """
    values, vectors = torch.linalg.eigh(source.cov)
    return (vectors * values.clamp(min=0).sqrt()).T[-source.most_rank :]

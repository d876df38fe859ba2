"""A feature set seen as a Gaussian that is compared more than once.

The same distance as `frechet_distance`, but what depends on one side alone, the factor of its
covariance, is computed once and kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from diffgen.metrics.frechet import (
    Moments,
    cholesky_factor,
    distance_given_trace,
    eigen_root,
    moments,
    root_trace,
    square_root,
)


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
        """From (N, D) features or from stored moments; ValueError as `frechet.moments`."""
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


def distance(first: Gaussian, second: Gaussian) -> float:
    """Squared Fréchet distance, as `frechet.frechet_distance`.

    Where both covariances have full rank it costs one eigvalsh of (D, D); `first`'s factor is
    the one kept, so the side that stays should stand there. Otherwise it costs the singular
    values of a (k_1, k_2) matrix.
    """
    if first.factor is not None and second.factor is not None:
        trace = root_trace(first.factor, second.moments.cov)
    else:
        trace = torch.linalg.svdvals(first.root @ second.root.T).sum()
    return distance_given_trace(first.moments, second.moments, trace)

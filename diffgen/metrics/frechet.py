"""Fréchet distance between two sets of features, seen as Gaussians (Heusel et al. 2017, eq. 6).

    d² = |mu_1 - mu_2|² + tr S_1 + tr S_2 - 2 tr (S_1 S_2)^{1/2}

The last trace is the nuclear norm of S_1^{1/2} S_2^{1/2}, so no matrix square root is formed.
With S_1 = L L^T it is the sum of square roots of the eigenvalues of L^T S_2 L, a symmetric
matrix: real by construction, unlike the eigenvalues of S_1 S_2. Covariances are unbiased (N - 1).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

ROWS_AT_ONCE = 4096  # a float64 copy is made of this many feature rows at a time


@dataclass(frozen=True, eq=False)
class Moments:
    """Mean and covariance of a set of feature vectors.

    Attributes:
        count: number of vectors, at least 2; None: not known, as of stored statistics.
        mean: (D,) float64.
        cov: (D, D) float64, unbiased (divided by count - 1).

    Raises ValueError where these do not hold.
    """

    count: int | None
    mean: Tensor
    cov: Tensor

    def __post_init__(self) -> None:
        if self.count is not None and self.count < 2:
            raise ValueError(f"a covariance needs at least 2 feature rows, got {self.count}")
        size = self.mean.shape[0] if self.mean.ndim == 1 else -1
        if tuple(self.cov.shape) != (size, size):
            raise ValueError(
                "mean must be (D,) and cov (D, D), got "
                f"{tuple(self.mean.shape)} and {tuple(self.cov.shape)}"
            )
        for name, value in (("mean", self.mean), ("cov", self.cov)):
            if value.dtype != torch.float64:
                raise ValueError(f"{name} must be float64, got {value.dtype}")
            if not torch.isfinite(value).all():
                raise ValueError(f"{name} holds NaN or infinity")

    @property
    def most_rank(self) -> int:
        """The largest rank the covariance can have: D, or count - 1 where that is less."""
        size = len(self.mean)
        return size if self.count is None else min(size, self.count - 1)


class MomentsAccumulator:
    """Moments of features that arrive in batches or from several shards.

    Keeps the mean and the scatter matrix (sum of products of deviations from the mean) and joins
    pieces by Chan, Golub and LeVeque (1979). Unlike sums of raw products this loses nothing when
    the mean is much larger than the spread. The result depends on the order of the pieces only
    by float64 rounding.
    """

    def __init__(self, num_features: int, device: torch.device | str = "cpu") -> None:
        self.count = 0
        self.mean = torch.zeros(num_features, dtype=torch.float64, device=device)
        self.scatter = torch.zeros(num_features, num_features, dtype=torch.float64, device=device)

    def update(self, features: Tensor) -> None:
        """Add the rows of `features`, (N, D) floating, N >= 1; ValueError otherwise."""
        check_features("features", features, num_features=self.mean.shape[0], least=1)
        for rows in features.detach().split(ROWS_AT_ONCE):
            rows = rows.to(self.mean)
            mean = rows.mean(0)
            centred = rows - mean
            self._join(len(rows), mean, centred.T @ centred)

    def merge(self, other: MomentsAccumulator) -> None:
        """Add everything `other` has seen; it is left as it was."""
        if other.mean.shape != self.mean.shape:
            raise ValueError(
                f"cannot merge {other.mean.shape[0]} features into {self.mean.shape[0]}"
            )
        self._join(other.count, other.mean.to(self.mean), other.scatter.to(self.scatter))

    def without(self, part: MomentsAccumulator) -> MomentsAccumulator:
        """What is left where `part`, some of the rows seen here, is taken away; both stay.

        The joining of pieces, solved for one of them. Variances are off by rounding of the whole's:
        a direction in which only `part` varies is left with about 1e-16 of its variance, of
        either sign.

        Raises ValueError unless `part` has as many features and fewer rows.
        """
        if part.mean.shape != self.mean.shape or not part.count < self.count:
            raise ValueError(
                f"cannot take {part.count} rows of {part.mean.shape[0]} features "
                f"from {self.count} of {self.mean.shape[0]}"
            )
        rest = MomentsAccumulator(self.mean.shape[0], self.mean.device)
        rest.count = self.count - part.count
        shift = (part.mean - self.mean) * (self.count / rest.count)  # part's mean less the rest's
        rest.mean = part.mean - shift
        weight = rest.count * part.count / self.count
        rest.scatter = self.scatter - part.scatter - torch.outer(shift, shift) * weight
        return rest

    def compute(self) -> Moments:
        """The moments so far; ValueError on fewer than 2 rows."""
        scale = max(self.count - 1, 1)  # Moments itself refuses a count below 2
        return Moments(self.count, self.mean.clone(), self.scatter / scale)

    def _join(self, count: int, mean: Tensor, scatter: Tensor) -> None:
        if count == 0:
            return
        total = self.count + count
        shift = mean - self.mean
        self.mean = self.mean + shift * (count / total)
        self.scatter = (
            self.scatter + scatter + torch.outer(shift, shift) * (self.count * count / total)
        )
        self.count = total


def moments(features: Tensor) -> Moments:
    """Mean and unbiased covariance of `features`, (N, D) floating, N >= 2.

    Raises ValueError on another shape or dtype, on fewer than 2 rows, and on NaN or infinity.
    """
    check_features("features", features)
    running = MomentsAccumulator(features.shape[1], features.device)
    running.update(features)
    return running.compute()


def moments_from_sums(count: int, total: Tensor, outer: Tensor) -> Moments:
    """Moments from sum x, (D,), and sum x x^T, (D, D), both float64: what processes can add up.

    Cancels where |mean| is much larger than the spread: about 1e-16 (mean / spread)² relative
    error, harmless for Inception features. Use `MomentsAccumulator` where the order is free.
    """
    mean = total / max(count, 1)
    return Moments(count, mean, (outer - torch.outer(total, mean)) / max(count - 1, 1))


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

    With both covariances of full rank the trace comes from them by Cholesky. Otherwise (N <= D,
    dead or repeated features, repeated images) eigenvalues that should be 0 come out near
    1e-16 and their square roots near 1e-8, so it is taken from the features, without squaring.
    """
    check_features("real", real)
    check_features("fake", fake, num_features=real.shape[1])
    if min(len(real), len(fake)) > real.shape[1]:
        first, second = moments(real), moments(fake)
        factor = cholesky_factor(first.cov)
        if factor is not None and cholesky_factor(second.cov) is not None:
            return distance_given_trace(first, second, root_trace(factor, second.cov))
    return _distance_from_features(real.detach().double(), fake.detach().double())


def frechet_from_moments(first: Moments, second: Moments) -> float:
    """Fréchet distance between two Gaussians, for stored statistics; symmetric up to rounding.

    Returns d² as `frechet_distance` does. If either covariance has full rank the trace comes
    by Cholesky, otherwise by an eigendecomposition that cuts negative eigenvalues. Where counts
    tell the rank, the eigenvalues beyond it are left out. Where they do not (dead or repeated
    features, repeated images, counts unknown) each leaves a root of about 1e-8 of the largest:
    prefer the features where they exist. ValueError if the feature counts differ.
    """
    if first.mean.shape != second.mean.shape:
        raise ValueError(
            "feature counts differ: "
            f"{first.mean.shape[0]} in the first moments, {second.mean.shape[0]} in the second"
        )
    rank = min(first.most_rank, second.most_rank)
    for one, other in ((first, second), (second, first)):
        factor = cholesky_factor(one.cov)
        if factor is not None:
            return distance_given_trace(first, second, root_trace(factor, other.cov, rank))
    factor = eigen_root(first).T
    return distance_given_trace(first, second, root_trace(factor, second.cov, rank))


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


def check_features(
    name: str, features: Tensor, *, num_features: int | None = None, least: int = 2
) -> None:
    """Raise ValueError unless `features` is (N, D), floating, finite and has `least` rows."""
    if features.ndim != 2 or features.shape[1] == 0:
        raise ValueError(f"{name} must be (N, D) features, got {tuple(features.shape)}")
    if not features.is_floating_point():
        raise ValueError(f"{name} must be floating point, got {features.dtype}")
    if len(features) < least:
        raise ValueError(f"{name} needs at least {least} rows, got {len(features)}")
    if num_features is not None and features.shape[1] != num_features:
        raise ValueError(f"{name} must have {num_features} columns, got {features.shape[1]}")
    if not torch.isfinite(features).all():
        raise ValueError(f"{name} holds NaN or infinity")


def eigen_root(source: Moments) -> Tensor:
    """R, (k, D) float64 with k the largest possible rank, and R^T R the covariance.

    Eigenvalues below 0 are cut; those that should be 0 leave roots of about 1e-8 of the largest.
    """
    values, vectors = torch.linalg.eigh(source.cov)
    return (vectors * values.clamp(min=0).sqrt()).T[-source.most_rank :]


def root_trace(factor: Tensor, cov: Tensor, rank: int | None = None) -> Tensor:
    """tr (F F^T cov)^{1/2}, a scalar, by symmetric eigenvalues, of which the `rank` largest count.

    `factor` is F, (D, k) float64, `cov` (D, D) float64; `rank` None: all k.
    """
    values = torch.linalg.eigvalsh(factor.T @ cov @ factor)  # ascending
    return values[-(rank or len(values)) :].clamp(min=0).sqrt().sum()


def distance_given_trace(first: Moments, second: Moments, trace: Tensor) -> float:
    """d² from the moments and `trace` = tr (S_1 S_2)^{1/2}, a scalar."""
    gap = (first.mean - second.mean).square().sum()
    return float(gap + first.cov.trace() + second.cov.trace() - 2 * trace)


def _distance_from_features(real: Tensor, fake: Tensor) -> float:
    """With X the centred features over sqrt(N - 1): the trace is the nuclear norm of X_1 X_2^T."""
    gap = (real.mean(0) - fake.mean(0)).square().sum()
    first, second = square_root(real), square_root(fake)
    trace = torch.linalg.svdvals(first @ second.T).sum()
    return float(gap + first.square().sum() + second.square().sum() - 2 * trace)


def square_root(features: Tensor) -> Tensor:
    """R, (min(N, D), D), with R^T R the covariance of (N, D) float64 `features`, never formed."""
    centred = (features - features.mean(0)) / (len(features) - 1) ** 0.5
    if len(features) <= features.shape[1]:
        return centred
    return torch.linalg.qr(centred, mode="r").R

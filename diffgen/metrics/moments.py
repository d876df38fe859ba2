"""Mean and covariance of feature vectors, of one set or of pieces that are joined."""

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
            self._join(len(rows), mean, gram(centred))

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


def gram(rows: Tensor) -> Tensor:
    """X^T X, (D, D), of rows X, (N, D).

    On a CPU by numpy, which sees that it is symmetric and does half the work (BLAS's syrk).
    """
    if rows.device.type != "cpu":
        return rows.T @ rows
    values = rows.detach().numpy()
    return torch.from_numpy(values.T @ values)


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

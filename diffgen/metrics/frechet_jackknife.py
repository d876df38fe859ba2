"""How sure a Fréchet distance is: its standard error over the generated images.

A bootstrap with replacement is not used: a drawn set holds about 63 % of the images, some of them
several times, so it has the covariance of a smaller set, and the distance, whose bias grows as
1 / N, comes out too large. Leaving groups out changes N by one group only.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from diffgen.metrics.frechet import Moments, MomentsAccumulator, check_features
from diffgen.metrics.gaussian import Gaussian, distance
from diffgen.metrics.jackknife import deal, jackknife

NUM_GROUPS = 20  # 2.09 standard errors make 95 %, against 2.26 with 10; the cost is linear


@dataclass(frozen=True)
class FrechetFigures:
    """A squared Fréchet distance with its uncertainty, in squared feature units.

    Attributes:
        value: as `frechet_distance` gives it at this number of images, bias included.
        standard_error: of `value` over other generated images, the reference held fixed.
        interval: 95 %, about `value`.
    """

    value: float
    standard_error: float
    interval: tuple[float, float]


class LeaveOneOut:
    """A feature set in groups, as Gaussians: `whole`, and `without` any one group.

    Besides the features, memory is a handful of (D, D) float64 matrices, whatever the number of
    groups: a group's scatter is computed when it is left out and taken from the whole's.

    Args:
        features: (N, D) floating, N >= 4.
        groups: (N,) int64 group of each row; at least two different ones, named by any integer
            and of any size.

    Raises ValueError on another shape or dtype, NaN, or a group that leaves fewer than 2 rows.
    """

    def __init__(self, features: Tensor, groups: Tensor) -> None:
        check_features("features", features)
        if tuple(groups.shape) != (len(features),) or groups.dtype != torch.int64:
            raise ValueError(
                f"groups must be ({len(features)},) int64, one a row, got "
                f"{tuple(groups.shape)} {groups.dtype}"
            )
        _, self.groups, sizes = groups.to(features.device).unique(
            return_inverse=True, return_counts=True
        )
        self.sizes: list[int] = sizes.tolist()
        if len(self.sizes) < 2 or len(features) - max(self.sizes) < 2:
            raise ValueError(
                "groups must be at least 2, each leaving 2 rows or more, got sizes "
                f"{self.sizes} of {len(features)} rows"
            )
        self.features = features
        self.total = self._accumulate(features)
        self.whole = Gaussian(self.total.compute(), lambda: features)

    @property
    def shares(self) -> list[float]:
        """Of the rows, by group."""
        return [size / len(self.features) for size in self.sizes]

    def without(self, group: int) -> Gaussian:
        """All rows but those of the `group`-th group in the order of their names."""
        inside = self.groups == group
        rest = self.total.without(self._accumulate(self.features[inside]))
        return Gaussian(rest.compute(), lambda: self.features[~inside])

    def _accumulate(self, rows: Tensor) -> MomentsAccumulator:
        running = MomentsAccumulator(rows.shape[1], rows.device)
        running.update(rows)
        return running


@torch.no_grad()
def frechet_interval(
    reference: Tensor | Moments,
    fake: Tensor,
    groups: Tensor | None = None,
    *,
    num_groups: int = NUM_GROUPS,
    seed: int = 0,
) -> FrechetFigures:
    """Fréchet distance of `fake` from `reference` with a 95 % interval over the fakes.

    Delete-a-group jackknife (`jackknife`): the distance is taken again without each group. The
    reference is held fixed, as it is where everybody compares with one file, so the interval
    says how the figure moves with other images of the same model; neither the bias at this
    number of images nor other training runs are in it. See `fid_infinity` for the bias.

    Args:
        reference: (M, D) floating features, M >= 2, or stored moments.
        fake: (N, D) floating features on the same device, N >= 4.
        groups: (N,) int64 group of each row, for example its shard; they need not be equally
            large, but must be alike: groups that are classes widen the interval. None: deal the
            rows out at random.
        num_groups: where `groups` is None, from 2 to N // 2.
        seed: of the deal.

    Raises:
        ValueError: shapes, dtypes, groups or numbers of rows other than above, different D, NaN.

    Each replicate costs a Cholesky factorisation and an eigvalsh of (D, D), over a second at
    D = 2048 on one CPU core; the reference is factorised once. Where a covariance is not of full
    rank (N <= D, dead features, repeated images) it comes from the features, O(N² D) each.
    """
    if isinstance(reference, Tensor):
        check_features("reference", reference)
    fixed = Gaussian.of(reference)
    check_features("fake", fake, num_features=len(fixed.moments.mean), least=4)
    fakes = LeaveOneOut(fake, deal(len(fake), num_groups, seed) if groups is None else groups)
    value = distance(fixed, fakes.whole)
    replicates = [distance(fixed, fakes.without(g)) for g in range(len(fakes.sizes))]
    found = jackknife(value, replicates, fakes.shares)
    return FrechetFigures(value, found.standard_error, found.interval(value))

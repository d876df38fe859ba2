"""How sure a Fréchet distance is: its standard error over the generated images.

A bootstrap with replacement is not used: a drawn set holds about 63 % of the images, some of them
several times, so it has the covariance of a smaller set, and the distance, whose bias grows as
1 / N, comes out too large. Leaving groups out changes N by one group only.
"""

from __future__ import annotations

import torch
from torch import Tensor

from diffgen.metrics.frechet import distance
from diffgen.metrics.gaussian import Gaussian
from diffgen.metrics.intervals import Estimate
from diffgen.metrics.jackknife import LEAST_ROWS, NUM_GROUPS, Groups, jackknife
from diffgen.metrics.moments import Moments, MomentsAccumulator, check_features


class LeaveOneOut:
    """A feature set in groups, as Gaussians: `whole`, and `without` any one group.

    Besides the features, memory is a handful of (D, D) float64 matrices, whatever the number of
    groups: a group's scatter is computed when it is left out and taken from the whole's.

    Args:
        features: (N, D) floating, N >= 4.
        groups: of the N rows, each leaving at least 2.

    Raises ValueError on another shape or dtype, and NaN.
    """

    def __init__(self, features: Tensor, groups: Groups) -> None:
        check_features("features", features)
        self.features, self.groups = features, groups
        self._number = groups.number.to(features.device)
        self._total = _accumulated(features)
        self.whole = Gaussian(self._total.compute(), lambda: features)

    def __len__(self) -> int:
        """The number of groups."""
        return len(self.groups.sizes)

    def without(self, group: int) -> Gaussian:
        """All rows but those of a group."""
        inside = self._number == group
        rest = self._total.without(_accumulated(self.features[inside]))
        return Gaussian(rest.compute(), lambda: self.features[~inside])


def _accumulated(rows: Tensor) -> MomentsAccumulator:
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
) -> Estimate:
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
            rows out at random (`jackknife.deal`).
        num_groups: at most so many are dealt, at least 2.
        seed: of the deal.

    Returns:
        The value as `frechet_distance` gives it at this number of images, bias included.

    Raises:
        ValueError: shapes, dtypes, groups or numbers of rows other than above, different D, NaN.

    Each replicate costs a Cholesky factorisation and an eigvalsh of (D, D), over a second at
    D = 2048 on one CPU core; the reference is factorised once. Where a covariance is not of full
    rank (N <= D, dead features, repeated images) it comes from the features, O(N² D) each.
    """
    if isinstance(reference, Tensor):
        check_features("reference", reference)
    fixed = Gaussian.of(reference)
    fakes = in_groups(fake, len(fixed.moments.mean), groups, num_groups, seed)
    value = distance(fixed, fakes.whole)
    replicates = [distance(fixed, fakes.without(g)) for g in range(len(fakes))]
    return jackknife(value, replicates, fakes.groups.shares).estimate()


def in_groups(
    fake: Tensor, num_features: int, groups: Tensor | None, num_groups: int, seed: int
) -> LeaveOneOut:
    """Fakes of `num_features` by `groups`, as `frechet_interval` takes and refuses them."""
    check_features("fake", fake, num_features=num_features, least=LEAST_ROWS)
    return LeaveOneOut(fake, Groups.of(groups, len(fake), num_groups=num_groups, seed=seed))

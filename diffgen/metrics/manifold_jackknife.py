"""Precision, recall, density and coverage in one pass, each with a 95 % interval.

A figure of overlap varies for two reasons: which points happen to fall into a manifold, and
where the manifold itself happens to lie, because it is made of sampled points too. Wilson's
interval of a share knows the first alone. The delete-a-group jackknife over the fakes (see
`jackknife`) admits both: without the fakes of a group their balls are missing as well, and
those of the other fakes reach as far as they then would. The reference is taken as fixed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from diffgen.metrics.balls import Rule, check_neighbour
from diffgen.metrics.frechet import check_features
from diffgen.metrics.intervals import wilson
from diffgen.metrics.jackknife import deal, jackknife
from diffgen.metrics.manifold_replicates import manifold_replicates

NUM_GROUPS = 10  # where the caller has none


@dataclass(frozen=True)
class Figure:
    """A figure of all points with its uncertainty.

    Attributes:
        value: of all points.
        standard_error: of `value` over other fakes, the reals held fixed.
        interval: 95 %, about `value`.
        replicates: G values, each without one group of fakes, in the order of their numbers.
    """

    value: float
    standard_error: float
    interval: tuple[float, float]
    replicates: tuple[float, ...]


@dataclass(frozen=True)
class ManifoldFigures:
    """Values as those of `precision_recall` and of `density_coverage`."""

    precision: Figure
    recall: Figure
    density: Figure
    coverage: Figure


@torch.no_grad()
def manifold_figures(
    real: Tensor,
    fake: Tensor,
    k: int = 3,
    rule: Rule = "adm",
    density_k: int = 5,
    *,
    groups: Tensor | None = None,
    block_size: int = 2048,
) -> ManifoldFigures:
    """All four figures of `fake` against `real` and their intervals, from the same distances.

    The interval of a share runs from the lower of two low ends to the higher of two high ends:
    the jackknife's, cut to [0, 1], and Wilson's, over the fakes for precision and over the reals
    for recall and coverage. The jackknife alone says nothing where all replicates are 0 or all
    are 1. Density has the jackknife's alone, cut at 0.

    Args:
        real: (N, D) floating features, N above k and density_k.
        fake: (M, D) floating features on the same device, M >= 4, and more than k of them
            outside any one group.
        k: of precision and recall, as in `precision_recall`.
        rule: of precision and recall, as in `precision_recall`.
        density_k: k of density and coverage, as in `density_coverage`.
        groups: (M,) int64 group of each fake, for example its shard; at least two different
            ones, named by any integer and of any size. They must be alike: groups that are
            classes widen the interval. None: deal the fakes out at random into 10, or M // 2.
        block_size: points per side of a distance block; memory is as `precision_recall`'s, and
            the fakes once more as they come and a few times (M k + N) G float64.

    Raises:
        ValueError: groups that are not as above, and as `precision_recall`.
    """
    check_features("real", real)
    check_features("fake", fake, num_features=real.shape[1], least=4)
    check_neighbour("k", k, len(real))
    check_neighbour("density_k", density_k, len(real))
    if groups is None:
        groups = deal(len(fake), min(NUM_GROUPS, len(fake) // 2))
    if tuple(groups.shape) != (len(fake),) or groups.dtype != torch.int64:
        raise ValueError(
            f"groups must be ({len(fake)},) int64, one a row of fake, got "
            f"{tuple(groups.shape)} {groups.dtype}"
        )
    sizes: list[int] = groups.unique(return_counts=True)[1].tolist()
    if len(sizes) < 2 or len(fake) - max(sizes) <= k:
        raise ValueError(
            f"groups must be at least 2, each leaving more than k = {k} fakes, got sizes "
            f"{sizes} of {len(fake)} fakes"
        )
    by_group = fake[groups.argsort(stable=True).to(fake.device)]
    found = manifold_replicates(real, by_group, sizes, k, rule, density_k, block_size)
    return ManifoldFigures(
        precision=_share(found.precision, sizes, len(fake)),
        recall=_share(found.recall, sizes, len(real)),
        density=_figure(found.density, sizes, 0.0, math.inf),
        coverage=_share(found.coverage, sizes, len(real)),
    )


def _share(values: Tensor, sizes: list[int], count: int) -> Figure:
    """A figure that is a share of `count` points."""
    found = _figure(values, sizes, 0.0, 1.0)
    low, high = wilson(round(found.value * count), count)
    interval = min(low, found.interval[0]), max(high, found.interval[1])
    return Figure(found.value, found.standard_error, interval, found.replicates)


def _figure(values: Tensor, sizes: list[int], least: float, most: float) -> Figure:
    """From (G + 1,) replicates and value; the jackknife's interval, cut to [least, most]."""
    *replicates, value = values.tolist()
    found = jackknife(value, replicates, [size / sum(sizes) for size in sizes])
    low, high = found.interval(value)
    interval = max(least, low), min(most, high)
    return Figure(value, found.standard_error, interval, tuple(replicates))

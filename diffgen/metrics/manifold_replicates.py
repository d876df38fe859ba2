"""Precision, recall, density and coverage without each group of fakes in turn, in one pass.

What a group of fakes brings to a figure is countable: its fakes inside the real manifold, its
fakes in each real ball, and its balls, in whose absence the others' may reach farther. So all
G replicates and the figures themselves come from the same blocks of distances.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from diffgen.metrics.balls import (
    Points,
    Rule,
    around_real_mean,
    distance_blocks,
    inside_by,
    nearest_others,
    surfaces,
)


@dataclass(frozen=True, eq=False)
class Replicates:
    """(G + 1,) float64 each: the figure without the fakes of group g; last, with all of them."""

    precision: Tensor
    recall: Tensor
    density: Tensor
    coverage: Tensor


def manifold_replicates(
    real: Tensor,
    fake: Tensor,
    sizes: Sequence[int],
    k: int,
    rule: Rule,
    density_k: int,
    block_size: int,
) -> Replicates:
    """The figures of `manifold_figures`, where `fake` is sorted by groups of these `sizes`."""
    inside = inside_by(rule)
    reals, fakes = around_real_mean(real, fake)
    groups = [slice(*ends) for ends in pairwise(accumulate(sizes, initial=0))]
    nearest = nearest_others(reals, max(k, density_k), [slice(0, len(reals))], block_size)[:, 0]
    real_balls = surfaces(reals, nearest[:, k - 1], rule)
    density_balls = surfaces(reals, nearest[:, density_k - 1], "strict")
    fake_balls = surfaces(fakes, radii_without(fakes, k, groups, block_size), rule)
    of_group = fake_balls.new_zeros(len(fakes), len(groups))
    for g, group in enumerate(groups):
        of_group[group, g] = 1
        fake_balls[g, group] = -torch.inf  # holds nothing

    fake_inside = torch.zeros(len(fakes), dtype=torch.bool, device=fake.device)
    real_inside = torch.zeros(len(reals), len(groups) + 1, dtype=torch.bool, device=fake.device)
    held = of_group.new_zeros(len(reals), len(groups))  # fakes in a real's ball, by group
    for rows, columns, distances in distance_blocks(reals, fakes, block_size):
        fake_inside[columns] |= inside(distances, real_balls[rows, None]).any(0)
        for g, balls in enumerate(fake_balls):
            real_inside[rows, g] |= inside(distances, balls[columns]).any(1)
        held[rows] += (distances < density_balls[rows, None]).double() @ of_group[columns]

    left = without_each(of_group.sum(0))
    held = without_each(held)
    return Replicates(
        precision=without_each(fake_inside.double() @ of_group) / left,
        recall=real_inside.double().sum(0) / len(reals),
        density=held.sum(0) / (density_k * left),
        coverage=(held > 0).double().sum(0) / len(reals),
    )


def radii_without(fakes: Points, k: int, groups: list[slice], block_size: int) -> Tensor:
    """(G + 1, M) squared radii of the fakes' balls without each group; last, with all of them.

    Exact whatever the groups are, since each fake's k nearest in every group are kept.
    """
    nearest = nearest_others(fakes, k, groups, block_size)
    radii = nearest.new_empty(len(groups) + 1, len(fakes))
    for g in range(len(groups)):
        others = torch.cat([nearest[:, :g], nearest[:, g + 1 :]], 1)
        radii[g] = others.flatten(1).kthvalue(k).values
    radii[-1] = nearest.flatten(1).kthvalue(k).values
    return radii


def without_each(counts: Tensor) -> Tensor:
    """(..., G) to (..., G + 1): the sum over groups without each one; last, the whole sum."""
    total = counts.sum(-1, keepdim=True)
    return torch.cat([total - counts, total], -1)

"""Balls around points that reach to their k-th nearest neighbour, and who lies in them.

Distances are compared squared and computed in float64 block by block, so that neither the
matmul precision a training run has set nor the number of points decides a figure, and no more
than a block of the features is ever held in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

Rule = Literal["adm", "strict"]

# Squared distances below this share of |u|² + |v|² are rounding: the points differ by less than
# one float32 step, as the features of one image do when it sits in two batches.
SAME_POINT = 1e-13
ROWS_AT_ONCE = 256  # become float64 where no product of blocks is to be fed


@dataclass(frozen=True, eq=False)
class Points:
    """(N, D) features, of which a slice gives rows in float64, relative to `centre`, (D,)."""

    features: Tensor
    centre: Tensor

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, rows: slice) -> Tensor:
        return self.features[rows].double() - self.centre


def around_real_mean(real: Tensor, fake: Tensor) -> tuple[Points, Points]:
    """Both sets around the mean of the first: a common offset would only cost digits."""
    total = torch.stack([rows.double().sum(0) for rows in real.split(ROWS_AT_ONCE)]).sum(0)
    centre = total / len(real)
    return Points(real, centre), Points(fake, centre)


def inside_by(rule: Rule) -> Callable[[Tensor, Tensor], Tensor]:
    """Compares squared distances with `surfaces` of the same rule; ValueError if unknown."""
    if rule not in get_args(Rule):
        raise ValueError(f"rule must be one of {get_args(Rule)}, got {rule!r}")
    return torch.le if rule == "adm" else torch.lt


def surfaces(points: Points, radii: Tensor, rule: Rule) -> Tensor:
    """Squared `radii`, (..., N), of balls around N points, moved by more than rounding can do.

    Moved outwards under "adm" and inwards under "strict", so that the rule decides about a
    point on a surface and not the block its distance came from. Copies of the reals are such
    points: they lie on the surfaces of their neighbours' balls.
    """
    sizes = torch.cat([points[rows].square().sum(1) for rows in blocks(len(points), ROWS_AT_ONCE)])
    # SAME_POINT of |p|² + |q|², where |q|² <= 2 |p|² + 2 r² for a point q at distance r of p.
    slack = SAME_POINT * (3 * sizes + 2 * radii)
    return radii + slack if rule == "adm" else radii - slack


def squared_radii(points: Points | Tensor, k: int, block_size: int) -> Tensor:
    """(N,) squared distance of each of N points, (N, D) float64, to its k-th nearest other one.

    ValueError unless 1 <= k < N and block_size >= 1.
    """
    check_neighbour("k", k, len(points))
    return nearest_others(points, k, [slice(0, len(points))], block_size)[:, 0, -1]


def check_neighbour(name: str, k: int, count: int) -> None:
    """ValueError unless each of `count` points has a `k`-th nearest other one."""
    if not 1 <= k < count:
        raise ValueError(f"{name} must be from 1 to {count - 1} for {count} points, got {k}")


def nearest_others(
    points: Points | Tensor, k: int, groups: Sequence[slice], block_size: int
) -> Tensor:
    """(N, G, k) squared distances of each of N points to its k nearest others in each group.

    Ascending; infinite where a group has fewer. The G `groups` partition the points. Each
    distance is computed once and serves both its points.
    """
    nearest = points[:0].new_full((len(points), len(groups), k), torch.inf)
    parts = [
        (g, slice(group.start + rows.start, group.start + rows.stop))
        for g, group in enumerate(groups)
        for rows in blocks(group.stop - group.start, block_size)
    ]
    for i, (g, rows) in enumerate(parts):
        first = points[rows]
        for h, columns in parts[i:]:
            distances = squared_distances(first, points[columns])
            if rows == columns:
                distances.fill_diagonal_(torch.inf)
            else:
                _keep_smallest(nearest[columns, g], distances.T)
            _keep_smallest(nearest[rows, h], distances)
    return nearest


def _keep_smallest(kept: Tensor, candidates: Tensor) -> None:
    """Each row of `kept`, (N, k), becomes the smallest of itself and of `candidates`, (N, M)."""
    width = min(kept.shape[1], candidates.shape[1])
    found = candidates.topk(width, largest=False).values
    kept.copy_(torch.cat([kept, found], 1).topk(kept.shape[1], largest=False).values)


def distance_blocks(
    first: Points, second: Points, block_size: int
) -> Iterator[tuple[slice, slice, Tensor]]:
    """Rows of `first`, rows of `second`, and the squared distances between them, for all pairs."""
    for rows in blocks(len(first), block_size):
        some = first[rows]
        for columns in blocks(len(second), block_size):
            yield rows, columns, squared_distances(some, second[columns])


def squared_distances(first: Tensor, second: Tensor) -> Tensor:
    """(N, M) squared Euclidean distances of (N, D) and (M, D) float64 rows; 0 for equal rows.

    |u - v|² = |u|² + |v|² - 2 u.v runs at matrix-product speed but leaves rounding where
    u = v, which would decide whether a copied point is inside a ball of radius 0.
    """
    size = first.square().sum(1)[:, None] + second.square().sum(1)[None, :]
    distances = torch.addmm(size, first, second.T, alpha=-2)
    return distances.masked_fill_(distances <= SAME_POINT * size, 0.0)


def blocks(count: int, size: int) -> list[slice]:
    """The rows from 0 to `count`, `size` at a time; ValueError for a size below 1."""
    if size < 1:
        raise ValueError(f"block_size must be at least 1, got {size}")
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]

"""Nearest neighbours of generated images among the training images: looking for copies.

Everything here is exact search in float64, block by block, never an N x M matrix.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from diffgen.metrics.balls import Points, around_real_mean, distance_blocks, squared_radii
from diffgen.metrics.moments import check_features

RATIO = 1 / 3
"""A convention, see `Neighbours.copied`."""


@dataclass(frozen=True, eq=False)
class Neighbours:
    """What `neighbours` finds for M fakes among N reals; distances Euclidean, float64.

    Attributes:
        distances: (M, 2) from each fake to its nearest and its second nearest real.
        indices: (M, 2) int64 rows of those reals.
        spacing: (N,) from each real to its nearest other real; 0 if it occurs twice.
    """

    distances: Tensor
    indices: Tensor
    spacing: Tensor

    @property
    def authenticity(self) -> float:
        """Share of fakes farther (>) from their nearest real than it is from its own nearest.

        Authenticity (Alaa et al. 2022) as dgm-eval's AuthPct computes it, as a share in [0, 1]
        instead of per cent. Fresh draws from the data's own distribution give between a third
        (one dimension) and a half (many), not 1: the share of points that are not the nearest
        neighbour of their nearest neighbour. Exact copies give 0.
        """
        return (self.distances[:, 0] > self.spacing[self.indices[:, 0]]).double().mean().item()

    def copied(self, ratio: float = RATIO) -> float:
        """Share in [0, 1] of fakes whose nearest real is closer (<) than `ratio` x the second.

        A third is a convention, not a calibrated level: state the ratio with the figure, and
        the share among held-out images beside it. Copies of a real that is itself there twice
        are missed, because then the second nearest is as close as the nearest.

        Raises ValueError unless 0 < ratio <= 1.
        """
        return much_nearer(self.distances, ratio).double().mean().item()


def much_nearer(distances: Tensor, ratio: float = RATIO) -> Tensor:
    """Of distances (M, 2) to the nearest and the second nearest: (M,) bool, which are copies.

    The rule of `Neighbours.copied`, point by point.

    Raises:
        ValueError: unless 0 < ratio <= 1.
    """
    if not 0 < ratio <= 1:
        raise ValueError(f"ratio must be above 0 and at most 1, got {ratio}")
    first, second = distances.unbind(1)
    return first < ratio * second


@torch.no_grad()
def neighbours(real: Tensor, fake: Tensor, *, block_size: int = 2048) -> Neighbours:
    """Each fake's two nearest reals and each real's nearest other real.

    Args:
        real: (N, D) floating features of the training images, N >= 2.
        fake: (M, D) floating features on the same device, M >= 1.
        block_size: points per side of a distance block; memory is a few
            block_size x max(block_size, D) float64 beside the result.

    Raises:
        ValueError: too few rows, different D, a shape or dtype other than above, NaN,
            block_size below 1.
    """
    check_features("real", real)
    check_features("fake", fake, num_features=real.shape[1], least=1)
    reals, fakes = around_real_mean(real, fake)
    distances, indices = _nearest(fakes, reals, 2, block_size)
    return Neighbours(distances, indices, squared_radii(reals, 1, block_size).sqrt())


@torch.no_grad()
def nearest(
    queries: Tensor, keys: Tensor, count: int, *, block_size: int = 2048
) -> tuple[Tensor, Tensor]:
    """The `count` nearest rows of `keys` to each row of `queries`.

    Args:
        queries: (N, D) floating, N >= 1.
        keys: (M, D) floating on the same device, M >= count.
        count: how many, at least 1.
        block_size: points per side of a distance block.

    Returns:
        Euclidean distances, (N, count) float64, ascending, and their rows of `keys`, (N, count)
        int64. Which of several keys at one distance comes first is not defined. Points that
        differ by less than a float32 step are at distance 0.

    Raises:
        ValueError: count or block_size out of range, different D, a shape or dtype other than
            above, NaN.
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}")
    check_features("queries", queries, least=1)
    check_features("keys", keys, num_features=queries.shape[1], least=count)
    points, asked = around_real_mean(keys, queries)
    return _nearest(asked, points, count, block_size)


def _nearest(queries: Points, keys: Points, count: int, block_size: int) -> tuple[Tensor, Tensor]:
    """As `nearest`."""
    best = queries.centre.new_full((len(queries), count), torch.inf)
    found = torch.zeros(len(queries), count, dtype=torch.int64, device=best.device)
    for rows, columns, distances in distance_blocks(queries, keys, block_size):
        numbers = torch.arange(columns.start, columns.stop, device=best.device)
        candidates = torch.cat([best[rows], distances], 1)
        best[rows], place = candidates.topk(count, largest=False)
        known = torch.cat([found[rows], numbers.expand(len(distances), -1)], 1)
        found[rows] = known.gather(1, place)
    return best.sqrt(), found

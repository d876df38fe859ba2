"""Nearest neighbours of generated images among the training images: looking for copies.

Everything here is exact search in float64, block by block, never an N x M matrix.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from diffgen.metrics.frechet import check_features
from diffgen.metrics.manifold import squared_distances

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
        if not 0 < ratio <= 1:
            raise ValueError(f"ratio must be above 0 and at most 1, got {ratio}")
        nearest, second = self.distances.unbind(1)
        return (nearest < ratio * second).double().mean().item()


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
    distances, indices = _nearest(fake, real, 2, block_size)
    spacing, _ = _nearest(real, real, 1, block_size, others=True)
    return Neighbours(distances, indices, spacing[:, 0])


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
    return _nearest(queries, keys, count, block_size)


def _nearest(
    queries: Tensor, keys: Tensor, count: int, block_size: int, *, others: bool = False
) -> tuple[Tensor, Tensor]:
    """As `nearest`; with `others`, row i of `keys` is no neighbour of row i of `queries`."""
    if block_size < 1:
        raise ValueError(f"block_size must be at least 1, got {block_size}")
    centre = keys.mean(0, dtype=torch.float64)  # a common offset would only cost digits
    distances = torch.empty(len(queries), count, dtype=torch.float64, device=queries.device)
    indices = torch.empty(len(queries), count, dtype=torch.int64, device=queries.device)
    for start in range(0, len(queries), block_size):
        rows = queries[start : start + block_size].double() - centre
        best = rows.new_empty(len(rows), 0)
        found = indices.new_empty(len(rows), 0)
        for offset in range(0, len(keys), block_size):
            columns = keys[offset : offset + block_size].double() - centre
            block = squared_distances(rows, columns)
            if others and offset == start:
                block.fill_diagonal_(torch.inf)
            numbers = torch.arange(offset, offset + len(columns), device=found.device)
            candidates = torch.cat([best, block], 1)
            best, place = candidates.topk(min(count, candidates.shape[1]), largest=False)
            found = torch.cat([found, numbers.expand(len(rows), -1)], 1).gather(1, place)
        distances[start : start + block_size] = best.sqrt()
        indices[start : start + block_size] = found
    return distances, indices

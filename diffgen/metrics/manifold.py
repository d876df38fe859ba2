"""Improved precision and recall (Kynkäänniemi et al. 2019): overlap of two k-nearest-neighbour
manifolds. The manifold of a set is the union of the balls around its points that reach to the
k-th nearest other point of the set:

    f(x, Phi) = 1 if |x - p| <= |p - NN_k(p, Phi)| for some p in Phi, else 0        (eq. 2)

Distances are compared squared and computed in float64 block by block, so that neither the
matmul precision a training run has set nor the number of points decides a figure.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from diffgen.metrics.frechet import check_features

Rule = Literal["adm", "strict"]

# Squared distances below this share of |u|² + |v|² are rounding: the points differ by less than
# one float32 step, as the features of one image do when it sits in two batches.
SAME_POINT = 1e-13


@dataclass(frozen=True)
class PrecisionRecall:
    """Shares in [0, 1]: of fakes inside the real manifold, of reals inside the fake manifold."""

    precision: float
    recall: float


@torch.no_grad()
def precision_recall(
    real: Tensor, fake: Tensor, k: int = 3, rule: Rule = "adm", *, block_size: int = 2048
) -> PrecisionRecall:
    """Improved precision and recall of `fake` against `real`.

    Both figures depend on the numbers of points: compare only at equal N and M.

    Args:
        real: (N, D) floating features, N > k.
        fake: (M, D) floating features on the same device, M > k.
        k: which nearest neighbour, the point itself not counted, sets a ball's radius.
        rule: "adm" counts a point on a ball's surface as inside (`<=`, guided-diffusion's
            evaluator), "strict" does not (`<`, the prdc package). They part on duplicates: a
            ball whose centre occurs more than k times has radius 0, holds copies of its centre
            under "adm" and nothing under "strict".
        block_size: points per side of a distance block; memory is a few block_size² float64.

    Raises:
        ValueError: k or block_size out of range, an unknown rule, different D, a shape or dtype
            other than above, NaN.

    guided-diffusion's own figures are from float16 distances, which puts both up to 0.003
    above these.
    """
    check_features("real", real)
    check_features("fake", fake, num_features=real.shape[1])
    if rule not in get_args(Rule):
        raise ValueError(f"rule must be one of {get_args(Rule)}, got {rule!r}")
    real, fake = real.double(), fake.double()
    centre = real.mean(0)  # a common offset would only cost digits
    real, fake = real - centre, fake - centre

    inside = torch.le if rule == "adm" else torch.lt
    real_radii = squared_radii(real, k, block_size)
    fake_radii = squared_radii(fake, k, block_size)
    fake_inside = torch.zeros(len(fake), dtype=torch.bool, device=fake.device)
    real_inside = torch.zeros(len(real), dtype=torch.bool, device=real.device)
    for rows in _blocks(len(real), block_size):
        for columns in _blocks(len(fake), block_size):
            distances = squared_distances(real[rows], fake[columns])
            fake_inside[columns] |= inside(distances, real_radii[rows, None]).any(0)
            real_inside[rows] |= inside(distances, fake_radii[None, columns]).any(1)
    return PrecisionRecall(fake_inside.double().mean().item(), real_inside.double().mean().item())


def squared_radii(features: Tensor, k: int, block_size: int) -> Tensor:
    """(N,) squared distance of each row of `features`, (N, D), to its k-th nearest other row.

    Keeps the k + 1 smallest distances of each row (one is its own 0) while columns pass by.
    ValueError unless 1 <= k < N and block_size >= 1.
    """
    count = len(features)
    if not 1 <= k < count:
        raise ValueError(f"k must be from 1 to {count - 1} for {count} points, got {k}")
    if block_size < 1:
        raise ValueError(f"block_size must be at least 1, got {block_size}")
    radii = features.new_empty(count)
    for rows in _blocks(count, block_size):
        nearest = features.new_empty(len(features[rows]), 0)
        for columns in _blocks(count, block_size):
            distances = squared_distances(features[rows], features[columns])
            candidates = torch.cat([nearest, distances], 1)
            width = min(k + 1, candidates.shape[1])
            nearest = candidates.topk(width, largest=False, sorted=False).values
        radii[rows] = nearest.amax(1)
    return radii


def squared_distances(first: Tensor, second: Tensor) -> Tensor:
    """(N, M) squared Euclidean distances of (N, D) and (M, D) float64 rows; 0 for equal rows.

    |u - v|² = |u|² + |v|² - 2 u.v runs at matrix-product speed but leaves rounding where
    u = v, which would decide whether a copied point is inside a ball of radius 0.
    """
    size = first.square().sum(1)[:, None] + second.square().sum(1)[None, :]
    distances = torch.addmm(size, first, second.T, alpha=-2)
    return distances.masked_fill_(distances <= SAME_POINT * size, 0.0)


def _blocks(count: int, size: int) -> Iterator[slice]:
    return (slice(start, start + size) for start in range(0, count, size))

"""Overlap of two sets by their k-nearest-neighbour balls.

The ball of a point reaches to the k-th nearest other point of its set; the balls of a set
together are its manifold. Improved precision and recall (Kynkäänniemi et al. 2019) ask which
points of one set lie in the manifold of the other:

    f(x, Phi) = 1 if |x - p| <= |p - NN_k(p, Phi)| for some p in Phi, else 0        (eq. 2)

Density and coverage (Naeem et al. 2020) count the balls around reals instead, so that the large
ball of an outlier does not decide. Distances are taken block by block; see `balls`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from diffgen.metrics.balls import (
    Rule,
    around_real_mean,
    distance_blocks,
    inside_by,
    squared_radii,
    surfaces,
)
from diffgen.metrics.moments import check_features


@dataclass(frozen=True)
class PrecisionRecall:
    """Shares in [0, 1]: of fakes inside the real manifold, of reals inside the fake manifold."""

    precision: float
    recall: float


@dataclass(frozen=True)
class DensityCoverage:
    """Mean number of real balls around a fake, over k: 0 or more; share in [0, 1] of real balls
    that hold a fake.
    """

    density: float
    coverage: float


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
        block_size: points per side of a distance block; memory is a few
            block_size x max(block_size, D) float64, and a check for NaN that passes over a copy.

    Raises:
        ValueError: k or block_size out of range, an unknown rule, different D, a shape or dtype
            other than above, NaN.

    guided-diffusion's own figures are from float16 distances, which puts both up to 0.003
    above these.
    """
    check_features("real", real)
    check_features("fake", fake, num_features=real.shape[1])
    inside = inside_by(rule)
    reals, fakes = around_real_mean(real, fake)
    real_balls = surfaces(reals, squared_radii(reals, k, block_size), rule)
    fake_balls = surfaces(fakes, squared_radii(fakes, k, block_size), rule)
    fake_inside = torch.zeros(len(fake), dtype=torch.bool, device=fake.device)
    real_inside = torch.zeros(len(real), dtype=torch.bool, device=real.device)
    for rows, columns, distances in distance_blocks(reals, fakes, block_size):
        fake_inside[columns] |= inside(distances, real_balls[rows, None]).any(0)
        real_inside[rows] |= inside(distances, fake_balls[columns]).any(1)
    return PrecisionRecall(
        fake_inside.count_nonzero().item() / len(fake),
        real_inside.count_nonzero().item() / len(real),
    )


@torch.no_grad()
def density_coverage(
    real: Tensor, fake: Tensor, k: int = 5, *, block_size: int = 2048
) -> DensityCoverage:
    """Density and coverage of `fake` against `real` (Naeem et al. 2020), by the strict rule.

    Density is 1/(k M) sum over fakes of the real balls that hold it; coverage is the share of
    real balls whose centre's nearest fake is closer than their radius. For two samples of one
    continuous distribution the expectations are 1 and 1 - prod_{i=1..k} (N - i)/(N + M - i).

    Args:
        real: (N, D) floating features, N > k.
        fake: (M, D) floating features on the same device, M >= 1.
        k: which nearest neighbour, the point itself not counted, sets a ball's radius.
        block_size: as `precision_recall`'s.

    Raises:
        ValueError: as `precision_recall`.
    """
    check_features("real", real)
    check_features("fake", fake, num_features=real.shape[1], least=1)
    reals, fakes = around_real_mean(real, fake)
    balls = surfaces(reals, squared_radii(reals, k, block_size), "strict")
    held = torch.zeros(len(real), dtype=torch.int64, device=real.device)
    for rows, _, distances in distance_blocks(reals, fakes, block_size):
        held[rows] += (distances < balls[rows, None]).sum(1)
    return DensityCoverage(
        held.sum().item() / (k * len(fake)), held.count_nonzero().item() / len(real)
    )

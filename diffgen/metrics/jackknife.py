"""Delete-a-group jackknife: how far a figure of many samples would move with other samples.

    h_g = n / m_g,    p_g = h_g theta - (h_g - 1) theta_(g)
    corrected = sum_g p_g / h_g,    variance = 1/G sum_g (p_g - corrected)² / (h_g - 1)

with theta_(g) the figure without the m_g samples of group g (Busing, Meijer and Van der Leeden
1999, delete-m jackknife for unequal m). For equal groups the variance is the usual
(G - 1) / G sum_g (theta_(g) - mean)², and `corrected` the usual G theta - (G - 1) mean: free of
the part of theta's bias that falls as 1 / n. What uses each sample smoothly, such as means and
covariances, can be judged so; a median cannot.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from scipy.special import stdtrit
from torch import Tensor


@dataclass(frozen=True)
class Jackknife:
    """What the replicates of a figure say about it.

    Attributes:
        corrected: the figure without the part of its bias that falls as 1 / n.
        standard_error: of the figure, and to first order of `corrected`.
        num_groups: G.
    """

    corrected: float
    standard_error: float
    num_groups: int

    def interval(self, centre: float) -> tuple[float, float]:
        """95 % interval about `centre`, by Student's t with G - 1 degrees of freedom."""
        half = float(stdtrit(self.num_groups - 1, 0.975)) * self.standard_error
        return centre - half, centre + half


def jackknife(value: float, replicates: Sequence[float], shares: Sequence[float]) -> Jackknife:
    """Standard error and bias from replicates.

    Args:
        value: theta, the figure of all n samples.
        replicates: theta_(g), the figure without group g, for each of G >= 2 groups.
        shares: m_g / n of each group, in (0, 1), adding up to 1.

    Raises ValueError for other lengths or shares.
    """
    if len(replicates) != len(shares) or len(shares) < 2:
        raise ValueError(
            "replicates and shares need the same length, at least 2, got "
            f"{len(replicates)} and {len(shares)}"
        )
    if min(shares) <= 0 or not math.isclose(math.fsum(shares), 1, rel_tol=1e-9):
        raise ValueError(f"shares must be above 0 and add up to 1, got {list(shares)}")
    pairs = [
        (1 / share, value / share - (1 / share - 1) * replicate)
        for replicate, share in zip(replicates, shares, strict=True)
    ]
    corrected = math.fsum(pseudo / h for h, pseudo in pairs)
    variance = math.fsum((pseudo - corrected) ** 2 / (h - 1) for h, pseudo in pairs) / len(pairs)
    return Jackknife(corrected, math.sqrt(variance), len(pairs))


def deal(count: int, num_groups: int, seed: int = 0, strata: Tensor | None = None) -> Tensor:
    """(count,) int64 group of each row, 0 ... num_groups - 1, dealt at random by `seed`.

    With `strata`, (count,) int64, every group gets its share of each: where the rows' classes were
    fixed beforehand, random shares of them in a group would be taken for scatter of the figure.

    Sizes differ by at most 1. At random, because rows are often sorted by class or repeat their
    classes at a fixed step, and a group must look like any other.
    ValueError unless 2 <= num_groups <= count / 2.
    """
    if not 2 <= num_groups <= count // 2:
        raise ValueError(
            f"num_groups must be from 2 to {count // 2} for {count} rows, got {num_groups}"
        )
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    if strata is not None:
        order = order[strata[order].argsort(stable=True)]
    groups = torch.empty(count, dtype=torch.int64)
    groups[order] = torch.arange(count) % num_groups
    return groups

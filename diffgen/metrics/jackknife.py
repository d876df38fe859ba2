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
from torch import Tensor

from diffgen.metrics.intervals import Estimate, students

NUM_GROUPS = 20  # 2.09 standard errors make 95 %, against 2.26 with 10; the cost is linear
LEAST_ROWS = 4  # two groups, each leaving two rows for a covariance


@dataclass(frozen=True)
class Jackknife:
    """What the replicates of a figure say about it.

    Attributes:
        value: the figure of all samples.
        corrected: the figure without the part of its bias that falls as 1 / n.
        standard_error: of the figure, and to first order of `corrected`.
        num_groups: G.
    """

    value: float
    corrected: float
    standard_error: float
    num_groups: int

    def estimate(self) -> Estimate:
        """`value` with its interval, by Student's t with G - 1 degrees of freedom."""
        return students(self.value, self.standard_error, self.num_groups - 1)

    def corrected_estimate(self) -> Estimate:
        """`corrected` with its interval."""
        return students(self.corrected, self.standard_error, self.num_groups - 1)


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
    return Jackknife(value, corrected, math.sqrt(variance), len(pairs))


@dataclass(frozen=True, eq=False)
class Groups:
    """N rows in G groups.

    Attributes:
        number: (N,) int64 group of each row, 0 ... G - 1.
        sizes: rows of each group.
    """

    number: Tensor
    sizes: list[int]

    @classmethod
    def of(
        cls,
        given: Tensor | None,
        count: int,
        *,
        left: int = 2,
        num_groups: int = NUM_GROUPS,
        seed: int = 0,
    ) -> Groups:
        """Groups as a caller names them, numbered in the order of their names.

        Args:
            given: (count,) int64 group of each row, at least two different ones, named by any
                integer and of any size; None: `deal` them.
            count: N.
            left: rows that must be left without any one group.
            num_groups, seed: of the deal.

        Raises ValueError for others.
        """
        groups = deal(count, num_groups, seed) if given is None else given
        if tuple(groups.shape) != (count,) or groups.dtype != torch.int64:
            raise ValueError(
                f"groups must be ({count},) int64, one a row, got "
                f"{tuple(groups.shape)} {groups.dtype}"
            )
        _, number, counts = groups.unique(return_inverse=True, return_counts=True)
        sizes: list[int] = counts.tolist()
        if len(sizes) < 2 or count - max(sizes) < left:
            raise ValueError(
                f"groups must be at least 2, each leaving {left} rows or more, got sizes {sizes} "
                f"of {count} rows"
            )
        return cls(number, sizes)

    @property
    def shares(self) -> list[float]:
        """Of the rows, by group."""
        return [size / len(self.number) for size in self.sizes]


def deal(
    count: int, num_groups: int = NUM_GROUPS, seed: int = 0, strata: Tensor | None = None
) -> Tensor:
    """(count,) int64 group of each row, dealt at random by `seed`.

    There are `num_groups`, or count // 2 where that is less; their sizes differ by at most 1. At
    random, because rows are often sorted by class or repeat their classes at a fixed step, and a
    group must look like any other.

    With `strata`, (count,) int64, every group gets its share of each: where the rows' classes were
    fixed beforehand, random shares of them in a group would be taken for scatter of the figure.

    ValueError for num_groups below 2 or fewer than 4 rows.
    """
    if num_groups < 2:
        raise ValueError(f"num_groups must be at least 2, got {num_groups}")
    if count < LEAST_ROWS:
        raise ValueError(f"two groups need at least {LEAST_ROWS} rows, got {count}")
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    if strata is not None:
        order = order[strata[order].argsort(stable=True)]
    groups = torch.empty(count, dtype=torch.int64)
    groups[order] = torch.arange(count) % min(num_groups, count // 2)
    return groups

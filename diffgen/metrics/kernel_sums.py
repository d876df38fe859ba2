"""Sums of a kernel over pairs of real and fake samples, of which discrepancies are made.

The fakes come in parts, and the sums within and across parts are kept apart, so that every
discrepancy without one part costs no further kernel. All is float64 and block by block: memory is
a few block_size x max(block_size, D) numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

Kernel = Callable[[Tensor, Tensor], Tensor]  # (N, D), (M, D) float64 -> (N, M), symmetric


@dataclass(frozen=True)
class Discrepancy:
    """MMD² of reals and of fakes in G parts, from sums of k over pairs.

    Attributes:
        real_count: of reals.
        real_apart, real_itself: over pairs of two different reals, and of each real with itself.
        sizes: fakes of each part.
        across: over all reals and the fakes of each part.
        apart: (G, G), over pairs of two different fakes, one of each of two parts.
        itself: over each fake with itself, by part.
    """

    real_count: int
    real_apart: float
    real_itself: float
    sizes: Sequence[int]
    across: Sequence[float]
    apart: Sequence[Sequence[float]]
    itself: Sequence[float]

    @classmethod
    def of(
        cls, kernel: Kernel, real: Tensor, parts: Sequence[Tensor], block_size: int
    ) -> Discrepancy:
        """Of reals (N, D) and G parts of fakes, (M_g, D) each."""
        within = [_sums_within(kernel, part, block_size) for part in parts]
        apart = [[0.0] * len(parts) for _ in parts]
        for i, part in enumerate(parts):
            apart[i][i] = within[i][0]
            for j in range(i):
                apart[i][j] = apart[j][i] = _sum_between(kernel, part, parts[j], block_size)
        return cls(
            len(real),
            *_sums_within(kernel, real, block_size),
            [len(part) for part in parts],
            [_sum_between(kernel, real, part, block_size) for part in parts],
            apart,
            [itself for _, itself in within],
        )

    def unbiased(self, left_out: int | None = None) -> float:
        """Means within a set over pairs of two different samples; at least 2 of each set."""
        kept, n = self._kept(left_out), self.real_count
        m = sum(self.sizes[g] for g in kept)
        reals = self.real_apart / (n * (n - 1))
        return reals + self._apart(kept) / (m * (m - 1)) - 2 * self._across(kept) / (n * m)

    def biased(self, left_out: int | None = None) -> float:
        """Means within a set over all pairs, each sample with itself too."""
        kept, n = self._kept(left_out), self.real_count
        m = sum(self.sizes[g] for g in kept)
        reals = (self.real_apart + self.real_itself) / n**2
        fakes = (self._apart(kept) + math.fsum(self.itself[g] for g in kept)) / m**2
        return reals + fakes - 2 * self._across(kept) / (n * m)

    def _kept(self, left_out: int | None) -> list[int]:
        return [g for g in range(len(self.sizes)) if g != left_out]

    def _apart(self, kept: Sequence[int]) -> float:
        return math.fsum(self.apart[i][j] for i in kept for j in kept)

    def _across(self, kept: Sequence[int]) -> float:
        return math.fsum(self.across[g] for g in kept)


def _sum_between(kernel: Kernel, first: Tensor, second: Tensor, block_size: int) -> float:
    """Sum of k(x_i, y_j) over all pairs."""
    return math.fsum(
        kernel(rows.double(), columns.double()).sum().item()
        for rows in first.split(block_size)
        for columns in second.split(block_size)
    )


def _sums_within(kernel: Kernel, features: Tensor, block_size: int) -> tuple[float, float]:
    """Sums of k(x_i, x_j) over i != j and over i = j; k is symmetric, so half the blocks do."""
    apart, itself = [], []
    blocks = features.split(block_size)
    for i, rows in enumerate(blocks):
        block = kernel(rows.double(), rows.double())
        itself.append(block.trace().item())
        apart.append(block.fill_diagonal_(0).sum().item())
        for columns in blocks[i + 1 :]:
            apart.append(2 * kernel(rows.double(), columns.double()).sum().item())
    return math.fsum(apart), math.fsum(itself)

"""The dynamic pool of discriminator heads (NitroFusion, Chen et al. 2024).

The pool is cut into compartments, by noise level first, then by type of head and by tap. An
iteration draws a level and from each of its compartments some heads, which are trained and put
back; then every head of the pool is begun anew with a small probability.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from diffgen.nitro.heads import Heads, HeadShape
from diffgen.seeding import stream_generator

EPS = 1e-8


class HeadType(NamedTuple):
    """What of an image a head sees, and whether the teacher is told the class."""

    name: str
    local: bool
    told: bool


GLOBAL = HeadType("global", local=False, told=True)
LOCAL = HeadType("local", local=True, told=True)
UNTOLD = HeadType("local_unconditional", local=True, told=False)


@dataclass(frozen=True)
class Compartments:
    """How a pool of ``size`` heads is cut, as evenly as it goes; what is left over is not made."""

    levels: int
    """Noise levels with heads of their own; 1: all levels share them."""
    types: int
    taps: int
    size: int

    @property
    def each(self) -> int:
        """Interchangeable heads of a compartment."""
        return self.size // (self.levels * self.types * self.taps)

    @property
    def total(self) -> int:
        """Heads there are."""
        return self.each * self.levels * self.types * self.taps

    def draw(self, level: int, share: int, generator: torch.Generator) -> Tensor:
        """(types, taps, share) int64: heads drawn for an iteration at ``level``, none twice."""
        order = torch.rand((self.types, self.taps, self.each), generator=generator)
        chosen = order.argsort(dim=-1)[..., :share]
        first = (level % self.levels) * self.types * self.taps
        cells = first + torch.arange(self.types * self.taps).view(self.types, self.taps, 1)
        return cells * self.each + chosen


class Pool(nn.Module):
    """Heads, the moments of their own Adam, their steps and ages. All of it is state, so a
    checkpoint holds it whole.

    Args:
        shape: of every head.
        count: of heads.
        seed: of their first and every later beginning.
        lr, betas: of Adam.
    """

    ages: Tensor
    """(count,) int64 iterations since each head began."""
    steps: Tensor
    """(count,) int64 times each was trained since."""

    def __init__(
        self, shape: HeadShape, count: int, seed: int, lr: float, betas: tuple[float, float]
    ) -> None:
        super().__init__()
        self.shape, self.count, self.seed = shape, count, seed
        self.lr, self.betas = lr, betas
        for name, values in shape.fresh(count, stream_generator(seed, "heads", 0)).items():
            self.register_buffer(name, values)
            self.register_buffer(f"first_{name}", torch.zeros_like(values))
            self.register_buffer(f"second_{name}", torch.zeros_like(values))
        self.register_buffer("ages", torch.zeros(count, dtype=torch.int64))
        self.register_buffer("steps", torch.zeros(count, dtype=torch.int64))

    def take(self, rows: Tensor) -> Heads:
        """Copies of the heads ``rows`` (n,), to be trained: they require gradients."""
        return {name: self.get_buffer(name)[rows].requires_grad_() for name in self.shape.names}

    @torch.no_grad()
    def step(self, rows: Tensor, gradients: Heads) -> None:
        """Adam (Kingma and Ba 2015) on the heads ``rows`` (n,), no row twice."""
        self.steps[rows] += 1
        beta1, beta2 = self.betas
        taken = self.steps[rows].float()
        correct1, correct2 = 1 - beta1**taken, 1 - beta2**taken
        for name, gradient in gradients.items():
            values, first, second = (
                self.get_buffer(prefix + name) for prefix in ("", "first_", "second_")
            )
            per_head = [-1] + [1] * (gradient.ndim - 1)
            m = first[rows].lerp(gradient, 1 - beta1)
            v = second[rows].lerp(gradient.square(), 1 - beta2)
            root = (v / correct2.view(per_head)).sqrt() + EPS
            first[rows], second[rows] = m, v
            values[rows] -= self.lr * (m / correct1.view(per_head)) / root

    @torch.no_grad()
    def refresh(self, rate: float, iteration: int) -> int:
        """Begin each head anew with probability ``rate``, moments and age too; how many were.

        Which ones, and what they become, follows from the seed and the iteration.
        """
        self.ages += 1
        generator = stream_generator(self.seed, "refresh", iteration)
        rows = (torch.rand(self.count, generator=generator) < rate).nonzero()[:, 0]
        fresh = self.shape.fresh(len(rows), generator)
        rows = rows.to(self.ages.device)
        for name, values in fresh.items():
            self.get_buffer(name)[rows] = values.to(self.ages.device)
            self.get_buffer(f"first_{name}")[rows] = 0
            self.get_buffer(f"second_{name}")[rows] = 0
        self.ages[rows] = 0
        self.steps[rows] = 0
        return len(rows)


def head_types(local: bool, untold: bool) -> Sequence[HeadType]:
    """Those in use: local ones, and among them those that are not told the class."""
    return [GLOBAL, *([LOCAL] if local else []), *([UNTOLD] if local and untold else [])]

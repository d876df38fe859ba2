"""How much of a condition an aligner reads at each time, and where constraints may end."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from diffgen.lacon.aligner import Aligner
from diffgen.lacon.conditions import Condition
from diffgen.sampling.guided import Denoiser

TIMES = tuple(k / 20 for k in range(1, 21))
ENOUGH = 0.9
"""Share of the best R^2."""
BATCH = 64
"""Pictures that are read at once."""


class Examples(NamedTuple):
    """Pictures that an aligner is tried on, and all that goes with them."""

    denoiser: Denoiser
    """The model; its position seeds, if any, are those of the N pictures."""
    x0: Tensor
    """(N, C, h, w) as the model sees them."""
    maps: Tensor
    """(N, channels, h, w)."""
    labels: Tensor
    """(N,) int64, the model's."""
    noise: Tensor
    """Like ``x0``, unit normal."""

    def part(self, which: slice) -> "Examples":
        """Some of them."""
        seeds = self.denoiser.position_seeds
        denoiser = self.denoiser._replace(position_seeds=seeds and seeds[which])
        tensors = (self.x0, self.maps, self.labels, self.noise)
        return Examples(denoiser, *(tensor[which] for tensor in tensors))

    def noisy(self, t: float) -> Tensor:
        """x_t (N, C, h, w) at time ``t``."""
        alpha, sigma = self.denoiser.levels(t)
        return alpha * self.x0 + sigma * self.noise


@torch.no_grad()
def read_maps(examples: Examples, aligner: Aligner, condition: Condition, t: float) -> Tensor:
    """The maps (N, channels, h, w) that the aligner reads at time ``t``."""
    read = []
    for first in range(0, len(examples.x0), BATCH):
        some = examples.part(slice(first, first + BATCH))
        seen = some.denoiser.observed(some.noisy(t), t, some.labels, None, aligner.blocks)[1]
        read.append(condition.shown(aligner(seen)))
    return torch.cat(read)


def r_squared(found: Tensor, wanted: Tensor) -> float:
    """R^2 of maps (B, C, H, W), not all alike: 1 less the squared error over the mean map's."""
    spread = (wanted - wanted.mean(dim=0)).square().sum()
    return 1 - float((found - wanted).square().sum() / spread)


def r2_curve(
    examples: Examples, aligner: Aligner, condition: Condition, times: Iterable[float]
) -> dict[str, float]:
    """R^2 of what the aligner reads, at each of the ``times``, written as text for JSON."""
    return {
        f"{t:g}": r_squared(read_maps(examples, aligner, condition, t), examples.maps)
        for t in times
    }


def cut_off(r2: Mapping[str, float]) -> float:
    """The greatest time at which R^2 has reached 0.9 of its best; 1, so never, if none is above 0.

    Down to there the picture's layout is still being decided, and the aligner reads ever more of
    it; below, the features only repeat what the picture already shows.
    """
    best = max(r2.values())
    if best <= 0:
        return 1.0
    return max(float(t) for t, value in r2.items() if value >= ENOUGH * best)

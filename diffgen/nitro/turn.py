"""What all samples of one iteration share, as a function of (seed, iteration)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from diffgen.nitro.features import Box, box_of
from diffgen.nitro.pool import Compartments
from diffgen.seeding import stream_generator


@dataclass(frozen=True)
class Turn:
    """The draws of one iteration."""

    level: int
    """Number of the noise level."""
    heads: Tensor
    """(types, taps, share) int64 places in the pool."""
    box: Box
    """What local heads see, of the teacher's images and of the student's alike."""
    steps: int
    """Of the student's course."""
    call: int
    """The call in it that learns, from 0."""


@dataclass(frozen=True)
class Turns:
    """Where turns come from."""

    seed: int
    levels: int
    compartments: Compartments
    share: int
    """Heads drawn of each compartment."""
    grid: tuple[int, int]
    """Rows and columns of an image [tokens]."""
    local_side: float
    """Of a crop, as a share of the image's."""
    courses: Sequence[tuple[int, int]]
    """(images, steps): from so many images seen on, courses of so many steps are trained too."""

    def at(self, iteration: int, seen: int) -> Turn:
        """The turn of an iteration that begins after ``seen`` images."""
        generator = stream_generator(self.seed, "turn", iteration)
        level, steps, call = (torch.rand((), generator=generator).item() for _ in range(3))
        known = [count for start, count in self.courses if seen >= start]
        chosen = known[int(steps * len(known))]
        return Turn(
            level=(which := int(level * self.levels)),
            heads=self.compartments.draw(which, self.share, generator),
            box=box_of(*self.grid, self.local_side, generator),
            steps=chosen,
            call=int(call * chosen),
        )

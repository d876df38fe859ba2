"""What a sample shall match: a map an aligner reads from features, or pixels of x0 itself."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from diffgen.guidance.late import Loss, Seen
from diffgen.lacon.aligner import Aligner
from diffgen.lacon.conditions import Condition


@dataclass(frozen=True)
class Aligned(Loss):
    """The map that an aligner reads from the features is to be ``wanted``.

    Args:
        aligner: of the model that draws; it is brought to the device the features are on.
        condition: what it reads.
        wanted: (B, channels, h, w) fp32 maps at the model's own size, on any device; B = 1: one
            for all images.
        weight: (B or 1, 1, h, w) in [0, 1], how much each place counts, and how far it is moved;
            None: all alike.
    """

    aligner: Aligner
    condition: Condition
    wanted: Tensor
    weight: Tensor | None = None

    @property
    def blocks(self) -> tuple[int, ...]:
        """See Loss.blocks."""
        return self.aligner.blocks

    @property
    def unit(self) -> float:
        """The standard deviation of the data's images."""
        return float(self.aligner.config.image_std)

    @property
    def region(self) -> Tensor | None:
        """The weight."""
        return self.weight

    @property
    def until(self) -> float:
        """The time from which on the aligner reads all it ever will; see ``curve.cut_off``."""
        return float(self.aligner.config.until)

    def check(self, shape: tuple[int, ...]) -> None:
        """See Loss.check."""
        name, channels = self.condition.name, self.condition.channels
        stated = self.aligner.config
        if (stated.condition, stated.channels) != (name, channels):
            raise ValueError(
                f"constraints: {name} has {channels} channels, but the aligner reads "
                f"{stated.condition}, of {stated.channels}"
            )
        check_maps(name, self.wanted, (shape[0], channels, *shape[2:]))
        if self.condition.binary and not self.condition.spans(self.wanted):
            low, high = self.wanted.aminmax()
            raise ValueError(
                f"constraints: maps of {name} lie in [0, 1], but these in [{low:.3g}, {high:.3g}]"
            )
        if self.weight is not None:
            check_maps(f"weight of {name}", self.weight, (shape[0], 1, *shape[2:]))

    def __call__(self, seen: Seen) -> Tensor:
        """See Loss.__call__."""
        predicted = self.aligner.to(seen.x0.device)(seen)
        wanted = self.wanted.to(predicted).expand_as(predicted)
        weight = None if self.weight is None else self.weight.to(predicted)
        return self.condition.loss(predicted, wanted, weight)


@dataclass(frozen=True)
class LowResolution(Loss):
    """The means of x0 over blocks of k x k are to be ``wanted``; scale 1 of ``none`` meets it.

    The loss is half the squared error of the means, times k^2, so that its gradient in x0 is the
    error of each block's mean, at every pixel of the block.

    Args:
        wanted: (B or 1, C, h / k, w / k), in the model's own pixels.
    """

    wanted: Tensor

    def check(self, shape: tuple[int, ...]) -> None:
        """See Loss.check."""
        height, width = self.wanted.shape[-2:]
        k = shape[2] // height
        if (height * k, width * k) != shape[2:]:
            raise ValueError(
                f"constraints: a low resolution of {height}x{width} does not divide "
                f"{shape[2]}x{shape[3]} in squares"
            )
        check_maps("low resolution", self.wanted, (*shape[:2], height, width))

    def __call__(self, seen: Seen) -> Tensor:
        """See Loss.__call__."""
        k = seen.x0.shape[-1] // self.wanted.shape[-1]
        error = F.avg_pool2d(seen.x0, k) - self.wanted.to(seen.x0)
        return error.square().sum(dim=(1, 2, 3)) * k**2 / 2


@dataclass(frozen=True)
class Inpaint(Loss):
    """x0 is to be ``wanted`` where ``known``; scale 1 of ``none`` meets it.

    Args:
        wanted: (B or 1, C, h, w), in the model's own pixels.
        known: (B or 1, 1, h, w) in [0, 1]; 0: to be drawn anew.
    """

    wanted: Tensor
    known: Tensor

    def check(self, shape: tuple[int, ...]) -> None:
        """See Loss.check."""
        check_maps("inpaint", self.wanted, shape)
        check_maps("known part", self.known, (shape[0], 1, *shape[2:]))

    def __call__(self, seen: Seen) -> Tensor:
        """See Loss.__call__."""
        known, wanted = self.known.to(seen.x0), self.wanted.to(seen.x0)
        return (known * (seen.x0 - wanted).square()).sum(dim=(1, 2, 3)) / 2


def check_maps(name: str, maps: Tensor, shape: tuple[int, ...]) -> None:
    """Raise ValueError unless ``maps`` have ``shape``, or one image for all."""
    if maps.ndim != 4 or maps.shape[1:] != shape[1:] or maps.shape[0] not in (1, shape[0]):
        wanted = f"({shape[0]} or 1, {', '.join(map(str, shape[1:]))})"
        raise ValueError(f"constraints: {name} is {tuple(maps.shape)}, but {wanted} is needed")

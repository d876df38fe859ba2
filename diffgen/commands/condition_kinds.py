"""Kinds of constraints: what each makes of a condition file, and the loss it aims at."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from diffgen.commands.condition_files import ConditionFile, cutout, picture
from diffgen.config.constraints import Form
from diffgen.data.pixels import grey
from diffgen.errors import UserError
from diffgen.guidance.late import Loss
from diffgen.lacon.losses import Inpaint, LowResolution
from diffgen.lacon.strokes import CELLS
from diffgen.models.vae import LatentSpace
from diffgen.pipeline import DiffGenPipeline


class Target(NamedTuple):
    """What a file asks of samples of one size."""

    wanted: Tensor
    """(1, C, h, w) fp32, in the model's own pixels, on the CPU."""
    shown: Tensor
    """(1, 1 or 3, H, W) in [-1, 1], it as a picture."""


@dataclass(frozen=True)
class Kind(ABC):
    """How condition files become targets, and targets a loss."""

    pipe: DiffGenPipeline
    form: Form
    """How the loss's gradient is followed."""
    notes: Mapping[str, Any]
    """What settings.json tells of it, beside the files."""

    def until(self, asked: float | None) -> float:
        """The time at which a constraint ends that ``asked`` for one or left it open (None).

        Raises:
            UserError: it cannot end there.
        """
        return asked or 0.0

    @abstractmethod
    def read(self, file: ConditionFile, size: tuple[int, int]) -> Target:
        """The target of a file for samples of ``size``. Raises UserError."""

    @abstractmethod
    def loss(self, wanted: Tensor) -> Loss:
        """Of targets (n, C, h, w) on the model's device."""


class ByMeans(Kind):
    """The means of a picture over square cells."""

    def read(self, file: ConditionFile, size: tuple[int, int]) -> Target:
        """See Kind.read."""
        seen, side = picture(file, size), cell_side(own_size(self.pipe, size))
        shown = F.avg_pool2d(seen, side * self.pipe.geometry.factor)
        return Target(F.avg_pool2d(own_pixels(self.pipe, seen), side), at(shown, size))

    def loss(self, wanted: Tensor) -> Loss:
        """See Kind.loss."""
        return LowResolution(wanted)


class ByKnownPart(Kind):
    """The opaque part of a picture; what is known is the last channel of targets."""

    def read(self, file: ConditionFile, size: tuple[int, int]) -> Target:
        """See Kind.read. Raises UserError too where no pixel of the model is known whole."""
        seen, opaque = cutout(file, size)
        known = -F.max_pool2d(-opaque, self.pipe.geometry.factor)
        if not known.any():
            raise UserError(f"{file.said} has no opaque part of a pixel of the model's")
        wanted = torch.cat([own_pixels(self.pipe, seen), known], dim=1)
        return Target(wanted, seen * at(known, size))

    def loss(self, wanted: Tensor) -> Loss:
        """See Kind.loss."""
        return Inpaint(wanted[:, :-1], wanted[:, -1:])


def own_size(pipe: DiffGenPipeline, size: tuple[int, int]) -> tuple[int, int]:
    """Height and width of what the model sees of samples of ``size``."""
    _, height, width = pipe.geometry.shape(*size)
    return height, width


def own_pixels(pipe: DiffGenPipeline, pictures: Tensor) -> Tensor:
    """Pictures (n, 3, H, W) in [-1, 1] as the model sees them: (n, C, h, w), on the CPU."""
    if pipe.latent_format is not None:
        space = LatentSpace(pipe.vae, pipe.latent_format)
        return space.encode(pictures.to(pipe.device)).cpu()
    return grey(pictures) if pipe.geometry.channels == 1 else pictures


def at(x: Tensor, size: tuple[int, int]) -> Tensor:
    """(n, C, h, w) with every pixel as a square, at ``size``."""
    return F.interpolate(x, size, mode="nearest-exact")


def cell_side(own: tuple[int, int]) -> int:
    """Side of the square cells of a low resolution of ``own`` (h, w) [the model's pixels].

    The smallest that divides both sides and leaves at most 8 along the shorter; where none does,
    the largest that divides both.
    """
    sides = [k for k in range(1, min(own) + 1) if not (own[0] % k or own[1] % k)]
    return next((k for k in sides if min(own) <= CELLS * k), sides[-1])

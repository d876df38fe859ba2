"""Kinds of constraints: what each makes of a condition file, and the loss it aims at."""

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from diffgen.commands.condition_files import ConditionFile, Size, cutout, picture
from diffgen.data.pixels import grey
from diffgen.errors import UserError
from diffgen.guidance.late import Loss
from diffgen.lacon.losses import Inpaint, LowResolution
from diffgen.models.vae import LatentSpace
from diffgen.pipeline import DiffGenPipeline

CELLS = 8
"""Of a low resolution along the shorter side, at most."""


class Target(NamedTuple):
    """What files ask of samples of one size, in the model's own pixels."""

    wanted: Tensor
    """(n, C, h, w) fp32, on the CPU."""
    weight: Tensor
    """(n, 1, h, w) in [0, 1], how much each place counts, or whether it is known."""
    shown: Tensor
    """(n, 1 or 3, H, W) in [-1, 1], it as a picture."""


class Kind(Protocol):
    """How condition files become targets, and targets a loss."""

    def read(self, file: ConditionFile, size: Size) -> Target:
        """The target of one file (n = 1) for samples of ``size``. Raises UserError."""

    def loss(self, wanted: Tensor, weight: Tensor) -> Loss:
        """Of targets, on the model's device."""

    def note(self) -> dict[str, Any]:
        """What settings.json tells of it, beside the files."""


@dataclass(frozen=True)
class ByMeans:
    """The means of a picture over square cells."""

    pipe: DiffGenPipeline

    def read(self, file: ConditionFile, size: Size) -> Target:
        """See Kind.read."""
        seen, side = picture(file, size), cell_side(own_size(self.pipe, size))
        wanted = F.avg_pool2d(own_pixels(self.pipe, seen), side)
        shown = F.avg_pool2d(seen, side * self.pipe.geometry.factor)
        return Target(wanted, torch.ones_like(wanted[:, :1]), at(shown, size))

    def loss(self, wanted: Tensor, weight: Tensor) -> Loss:
        """See Kind.loss."""
        return LowResolution(wanted)

    def note(self) -> dict[str, Any]:
        """See Kind.note."""
        return {}


@dataclass(frozen=True)
class ByKnownPart:
    """The opaque part of a picture."""

    pipe: DiffGenPipeline

    def read(self, file: ConditionFile, size: Size) -> Target:
        """See Kind.read. Raises UserError too where no pixel of the model is known whole."""
        seen, opaque = cutout(file, size)
        known = -F.max_pool2d(-opaque, self.pipe.geometry.factor)
        if not known.any():
            raise UserError(f"{file.said} has no opaque part of a pixel of the model's")
        return Target(own_pixels(self.pipe, seen), known, seen * at(known, size))

    def loss(self, wanted: Tensor, weight: Tensor) -> Loss:
        """See Kind.loss."""
        return Inpaint(wanted, weight)

    def note(self) -> dict[str, Any]:
        """See Kind.note."""
        return {}


def own_size(pipe: DiffGenPipeline, size: Size) -> Size:
    """Height and width of what the model sees of samples of ``size``."""
    _, height, width = pipe.geometry.shape(*size)
    return height, width


def own_pixels(pipe: DiffGenPipeline, pictures: Tensor) -> Tensor:
    """Pictures (n, 3, H, W) in [-1, 1] as the model sees them: (n, C, h, w), on the CPU."""
    if pipe.latent_format is not None:
        space = LatentSpace(pipe.vae, pipe.latent_format)
        return space.encode(pictures.to(pipe.device)).cpu()
    return grey(pictures) if pipe.geometry.channels == 1 else pictures


def at(x: Tensor, size: Size) -> Tensor:
    """(n, C, h, w) with every pixel as a square, at ``size``."""
    return F.interpolate(x, size, mode="nearest-exact")


def cell_side(own: Size, cells: int = CELLS) -> int:
    """Side of the square cells of a low resolution of ``own`` (h, w) [the model's pixels].

    The smallest that divides both sides and leaves at most ``cells`` along the shorter; where none
    does, the largest that divides both.
    """
    sides = [k for k in range(1, min(own) + 1) if not (own[0] % k or own[1] % k)]
    return next((k for k in sides if min(own) <= cells * k), sides[-1])

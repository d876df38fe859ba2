"""How a picture of any size becomes a training image, as geometry alone; sizes are (h, w)."""

import math
from typing import NamedTuple

import torch

from diffgen.config.images import FittedConfig
from diffgen.data.crops import random_box

Size = tuple[int, int]


class Limits(NamedTuple):
    """What the encoding asks of sizes [pixels]."""

    multiple: int = 1
    """Divides the sides of whole pictures."""
    longest: Size | None = None
    """No whole picture is higher or wider; None: no bound."""


WHOLE = Limits()


class Part(NamedTuple):
    """Which part of which picture an image shows, in the image's own pixels."""

    height: float
    """Of the whole picture at the image's scale."""
    width: float
    top: float
    """Of the image in the picture."""
    left: float

    def mirrored(self, width: int) -> "Part":
        """That of the image, ``width`` pixels wide, turned left to right."""
        return self._replace(left=self.width - self.left - width)


class Fit(NamedTuple):
    """A training image of ``size``, cut out of its picture."""

    size: Size
    box: tuple[float, float, float, float] | None
    """(left, top, right, bottom) in the picture; None: the middle, as ADM crops it."""
    part: Part


def fit(
    picture: Size,
    target: Size,
    config: FittedConfig,
    limits: Limits,
    generator: torch.Generator,
) -> Fit:
    """The training image of a ``picture``.

    Args:
        picture: its size [pixels].
        target: of the training images; for ``none`` and ``mixed`` the largest area.
        config: crop ``center``: the middle; ``random``: see ``random_box``, or the middle;
            ``none``: the whole picture, shrunk to the area; ``mixed``: half of the pictures larger
            than ``target`` on both sides are cropped to it, the others as ``none`` (FiTv2, Wang et
            al. 2024).
        limits: what the encoding asks of sizes.
    """
    height, width = picture

    def chance(share: float) -> bool:
        return share == 1 or bool(torch.rand((), generator=generator) < share)

    if config.crop == "random" and chance(config.crop_share):
        box = random_box(picture, *target, config.crop_scale, generator)
        down, right = target[0] / (box[3] - box[1]), target[1] / (box[2] - box[0])
        return Fit(target, box, Part(height * down, width * right, box[1] * down, box[0] * right))
    whole = config.crop in ("none", "mixed")
    if config.crop == "mixed" and height > target[0] and width > target[1]:
        whole = chance(0.5)
    if whole:
        size = within(picture, target[0] * target[1], limits)
        return Fit(size, (0, 0, width, height), Part(*size, 0, 0))
    scale = max(target[0] / height, target[1] / width)
    covered = (height * scale, width * scale)
    top, left = ((covered[axis] - target[axis]) / 2 for axis in (0, 1))
    return Fit(target, None, Part(*covered, top, left))


def within(picture: Size, area: int, limits: Limits) -> Size:
    """The size of a whole picture in at most ``area`` pixels, never enlarged (FiTv2).

    Sides are rounded down to ``limits.multiple``, but one of less becomes one multiple; then they
    are cut short where area or ``limits.longest`` ask for it.
    """
    height, width = picture
    multiple, most = limits.multiple, area // limits.multiple**2
    shrink = min(1.0, math.sqrt(area / (height * width)))
    sides = [max(1, math.floor(side * shrink / multiple + 1e-9)) for side in picture]
    longer = 0 if sides[0] > sides[1] else 1
    sides[longer] = max(1, min(sides[longer], most // sides[1 - longer]))
    if limits.longest is not None:
        sides = [
            min(side, end // multiple) for side, end in zip(sides, limits.longest, strict=True)
        ]
    return sides[0] * multiple, sides[1] * multiple

"""The demo world: two flat objects on a soft gradient, drawn at any size from their index.

The label is the class of the front object. Depth shows in three ways: the front object covers the
back one, haze towards the background's mean colour grows with depth, and far objects are smaller.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from diffgen.config.images import FittedConfig
from diffgen.data.fit import WHOLE, Limits, Part, fit
from diffgen.data.shapes_geometry import CLASS_NAMES, DISTANCES
from diffgen.data.shapes_scene import BACKGROUND_DEPTH, Body, Scene, native_size, scene

__all__ = [
    "CLASS_NAMES",
    "HELD_OUT",
    "TRAIN",
    "Drawing",
    "Scene",
    "Shapes",
    "draw",
    "draw_image",
    "scene",
]

TRAIN = range(0, 1_000_000)
HELD_OUT = range(1_000_000, 1_200_000)
_SPLITS = {"train": TRAIN, "held_out": HELD_OUT}

Plane = NDArray[np.float32]


@dataclass(frozen=True)
class Drawing:
    """A scene on a canvas; float32 arrays.

    image: (3, H, W) RGB in [-1, 1].
    mask: (1, H, W) in [0, 1], antialiased coverage of the front, labelled object.
    edge: (1, H, W) in [0, 1], the visible outlines of both objects, one pixel wide: 1 on the
        outline, falling linearly to 0 one pixel away.
    depth: (1, H, W) in [1, 10], depth of the surface that fills at least half of the pixel.
    """

    image: Plane
    mask: Plane
    edge: Plane
    depth: Plane


def draw(scene: Scene, height: int, width: int) -> Drawing:
    """The picture and its exact maps at ``height`` x ``width`` pixels (each at least 8)."""
    front, back = _signed_distances(scene, height, width)
    mask, back_cover = _coverage(front), _coverage(back)
    outline = np.maximum(1 - np.abs(front), (1 - np.abs(back)) * (1 - mask))
    depth = np.full((height, width), BACKGROUND_DEPTH, np.float32)
    depth[back_cover >= 0.5] = scene.back.depth
    depth[mask >= 0.5] = scene.front.depth
    return Drawing(
        image=_compose(scene, mask, back_cover),
        mask=mask[None],
        edge=np.maximum(outline, 0)[None],
        depth=depth[None],
    )


def draw_image(scene: Scene, height: int, width: int) -> Plane:
    """Only the picture, (3, H, W) float32 in [-1, 1]; equal to ``draw(...).image``."""
    front, back = _signed_distances(scene, height, width)
    return _compose(scene, _coverage(front), _coverage(back))


def _signed_distances(scene: Scene, height: int, width: int) -> tuple[Plane, Plane]:
    """Distances in pixels of the pixel centres from the outlines of front and back, (H, W)."""
    for name, value in (("height", height), ("width", width)):
        if value < 8:
            raise ValueError(f"{name} is {value} pixels; a shapes picture needs at least 8")
    return _signed_distance(scene.front, height, width), _signed_distance(scene.back, height, width)


def _signed_distance(body: Body, height: int, width: int) -> Plane:
    short = min(height, width)
    radius = body.radius * short
    row = radius + body.place[0] * (height - 2 * radius)
    column = radius + body.place[1] * (width - 2 * radius)
    y = ((np.arange(height, dtype=np.float32) + 0.5 - row) / radius)[:, None]
    x = ((np.arange(width, dtype=np.float32) + 0.5 - column) / radius)[None, :]
    cosine, sine = math.cos(body.tilt), math.sin(body.tilt)
    distance = DISTANCES[body.kind](cosine * x + sine * y, cosine * y - sine * x)
    return np.asarray(distance * radius, np.float32)


def _coverage(distance: Plane) -> Plane:
    """Share of a pixel inside a straight edge at this distance in pixels."""
    return np.clip(0.5 - distance, 0, 1)


def _compose(scene: Scene, mask: Plane, back_cover: Plane) -> Plane:
    """Paint background, back and front over each other; (3, H, W) in [-1, 1]."""
    first, second, back, front = (
        np.array(colour, np.float32)[:, None, None] * 2 - 1
        for colour in (*scene.background, scene.back.colour, scene.front.colour)
    )
    image = first + (second - first) * _gradient(scene.gradient_angle, *mask.shape)
    image += (back - image) * back_cover
    image += (front - image) * mask
    return image


def _gradient(angle: float, height: int, width: int) -> Plane:
    """Ramp from 0 to 1 across the canvas, whatever its proportions; (H, W)."""
    across, down = math.cos(angle), math.sin(angle)
    reach = abs(across) + abs(down)
    v = ((np.arange(height, dtype=np.float32) + 0.5) / height - 0.5) * (down / reach) + 0.5
    u = ((np.arange(width, dtype=np.float32) + 0.5) / width - 0.5) * (across / reach)
    return np.asarray(v[:, None] + u[None, :], np.float32)


class Shapes(Dataset[tuple[torch.Tensor, int]]):
    """Scenes of a split, drawn on demand at one size.

    Items are (image, label): image (3, H, W) float32 in [-1, 1], label an index into
    ``class_names``.

    Args:
        height, width: of the canvas [pixels].
        split: "train" or "held_out".
        num_images: the first so many; None: all of the split.
        part: the places of those that are kept; None: all.
        fitting: what ``augmented`` shows, see ``diffgen.data.fit``; None: the item itself.
        limits: of images that keep their shape.

    Raises:
        ValueError: an unknown split, a side below 8 pixels or more images than the split holds.
    """

    class_names = CLASS_NAMES

    def __init__(
        self,
        height: int,
        width: int,
        split: str = "train",
        num_images: int | None = None,
        fitting: FittedConfig | None = None,
        limits: Limits = WHOLE,
        part: slice | None = None,
    ) -> None:
        if split not in _SPLITS:
            raise ValueError(f"split is {split!r}; allowed: {', '.join(_SPLITS)}")
        indices = _SPLITS[split]
        if num_images is not None and not 1 <= num_images <= len(indices):
            raise ValueError(
                f"num_images is {num_images}; split {split!r} holds 1 to {len(indices)}"
            )
        if min(height, width) < 8:
            raise ValueError(f"height x width is {height} x {width}; each must be at least 8")
        self.height, self.width = height, width
        self.indices = indices[:num_images][part or slice(None)]
        self.fitting, self.limits = fitting or FittedConfig(), limits

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        drawn = scene(self.indices[i])
        return torch.from_numpy(draw_image(drawn, self.height, self.width)), drawn.label

    def augmented(self, i: int, generator: torch.Generator) -> tuple[torch.Tensor, int, Part]:
        """Item ``i`` as ``fitting`` says: a piece of a larger drawing, or one of a size of its own.

        Nothing is resized: the scene is drawn at the scale its part is shown at.
        """
        target, drawn = (self.height, self.width), scene(self.indices[i])
        picture = native_size(drawn.index) if self.fitting.mixed_sizes else target
        chosen = fit(picture, target, self.fitting, self.limits, generator)
        whole = (round(chosen.part.height), round(chosen.part.width))
        (top, bottom), (left, right) = (
            _span(offset, side, length)
            for offset, side, length in zip(chosen.part[2:], chosen.size, whole, strict=True)
        )
        image = draw_image(drawn, *whole)[:, top:bottom, left:right]
        return torch.from_numpy(image), drawn.label, Part(*whole, top, left)

    def maps(self, i: int) -> dict[str, torch.Tensor]:
        """``mask``, ``edge`` and ``depth`` of item ``i``, each (1, H, W); see ``Drawing``."""
        drawing = draw(scene(self.indices[i]), self.height, self.width)
        return {
            name: torch.from_numpy(getattr(drawing, name)) for name in ("mask", "edge", "depth")
        }


def _span(offset: float, side: int, length: int) -> tuple[int, int]:
    """The whole pixels nearest to ``offset`` ... ``offset + side`` that lie within ``length``."""
    start = min(round(offset), length - side)
    return start, start + side

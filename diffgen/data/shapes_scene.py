"""What is in picture number ``index`` of the shapes world, before any canvas is chosen."""

import colorsys
import math
from dataclasses import dataclass

import numpy as np

from diffgen.data.shapes_geometry import AREAS, CLASS_NAMES, MAX_TILT, closest_approach, lens_area

BACKGROUND_DEPTH = 10.0
MAX_COVER = 0.4
"""Largest share of the back object's area that the front object may hide, on any canvas."""

_SALT = 0x5AAFE5
_HAZE_PER_DEPTH = 0.05
_PLACE_TRIES = 100
_FRONT_DEPTHS, _BACK_DEPTHS = (1.5, 2.5), (7.0, 8.5)

Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Body:
    """One object. ``kind`` indexes ``CLASS_NAMES``; ``place`` is (row, column) in [0, 1], 0 where
    the bounding disc touches the near edge of the canvas and 1 where it touches the far edge;
    ``radius`` of the bounding disc in short sides; ``tilt`` in radians; ``depth`` in [1, 10];
    ``colour`` RGB in [0, 1], haze included."""

    kind: int
    place: tuple[float, float]
    radius: float
    tilt: float
    depth: float
    colour: Colour


@dataclass(frozen=True)
class Scene:
    """Two objects on a gradient. ``background`` holds the RGB colours in [0, 1] at its two ends
    and ``gradient_angle`` its direction in radians (0: left to right, pi/2: top to bottom)."""

    index: int
    front: Body
    back: Body
    background: tuple[Colour, Colour]
    gradient_angle: float

    @property
    def label(self) -> int:
        """Class of the front object, an index into ``CLASS_NAMES``."""
        return self.front.kind


def scene(index: int) -> Scene:
    """The scene numbered ``index`` (>= 0): a pure function of it. Raises ValueError below 0."""
    if index < 0:
        raise ValueError(f"index is {index}; a scene's index is 0 or more")
    # Only `random()` is drawn: its stream for a given seed is the same in every numpy release.
    rng = np.random.Generator(np.random.PCG64([_SALT, index]))
    kinds = (int(rng.random() * len(CLASS_NAMES)), int(rng.random() * len(CLASS_NAMES)))
    depths = (_uniform(rng, *_FRONT_DEPTHS), _uniform(rng, *_BACK_DEPTHS))
    radii = (_radius(rng, depths[0]), _radius(rng, depths[1]))
    places = _places(rng, radii, kinds[1])
    background = _background(rng)
    colours = _colours(rng, background, depths)
    front, back = (
        Body(kinds[i], places[i], radii[i], _tilt(rng, kinds[i]), depths[i], colours[i])
        for i in (0, 1)
    )
    return Scene(index, front, back, background, _uniform(rng, 0.0, 2 * math.pi))


def native_size(index: int) -> tuple[int, int]:
    """Height and width [pixels] that scene ``index`` has where pictures keep their own size.

    Area log-uniform between those of 16 x 16 and 64 x 64, height over width log-uniform between
    1/2 and 2.
    """
    rng = np.random.Generator(np.random.PCG64([_SALT, index, 1]))
    side, aspect = 16 * 4 ** rng.random(), 2 ** (rng.random() - 0.5)  # the root of the aspect
    return round(side * aspect), round(side / aspect)


def haze(depth: float) -> float:
    """Share of the background's mean colour mixed into an object at this depth: 0 at depth 1."""
    return _HAZE_PER_DEPTH * (depth - 1.0)


def _uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return low + (high - low) * rng.random()


def _tilt(rng: np.random.Generator, kind: int) -> float:
    return math.radians(_uniform(rng, -MAX_TILT[kind], MAX_TILT[kind]))


def _radius(rng: np.random.Generator, depth: float) -> float:
    """Far objects are smaller: 0.36 to 0.42 of the short side in front, 0.12 to 0.20 behind.

    So large a front object is what a model of a million weights learns to draw in minutes.
    """
    return 0.47 - 0.04 * depth + _uniform(rng, -0.008, 0.008)


def _places(
    rng: np.random.Generator, radii: tuple[float, float], back_kind: int
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Uniform places, redrawn until the back object is visible enough on every canvas.

    The front object lies in its bounding disc and the back one in its own, so what the discs
    share at their closest bounds the hidden area.
    """
    hidden = MAX_COVER * AREAS[back_kind] * radii[1] ** 2
    for _ in range(_PLACE_TRIES):
        front = (rng.random(), rng.random())
        back = (rng.random(), rng.random())
        if lens_area(*radii, closest_approach(front, back, *radii)) <= hidden:
            return front, back
    return (0.0, 0.0), (1.0, 1.0)  # opposite corners always satisfy the bound


def _background(rng: np.random.Generator) -> tuple[Colour, Colour]:
    """Two muted colours of nearby hue."""
    hue = rng.random()
    value = _uniform(rng, 0.42, 0.80)
    first = (hue, _uniform(rng, 0.25, 0.45), value + 0.10)
    second = (hue + _uniform(rng, -0.06, 0.06), _uniform(rng, 0.25, 0.45), value - 0.10)
    return colorsys.hsv_to_rgb(*first), colorsys.hsv_to_rgb(*second)


def _mix(a: Colour, b: Colour, share: float) -> Colour:
    return tuple((1 - share) * x + share * y for x, y in zip(a, b, strict=True))  # type: ignore


def _colours(
    rng: np.random.Generator, background: tuple[Colour, Colour], depths: tuple[float, float]
) -> tuple[Colour, Colour]:
    """Colours of front and back, hazed: apart from the background and from each other.

    The contrast before haze lies in a narrow band, so that the contrast after it tells the depth.
    """
    mean = _mix(*background, 0.5)
    chosen: list[Colour] = []
    while len(chosen) < 2:
        pure = colorsys.hsv_to_rgb(
            rng.random(), _uniform(rng, 0.40, 0.80), _uniform(rng, 0.30, 0.90)
        )
        if not 0.45 <= math.dist(pure, mean) <= 0.70:
            continue
        seen = _mix(pure, mean, haze(depths[len(chosen)]))
        if min(seen) > 0.8 * max(seen) or max(seen) < 0.2:  # haze must not leave the HSV range
            continue
        if all(math.dist(seen, other) >= 0.25 for other in (*background, *chosen)):
            chosen.append(seen)
    return chosen[0], chosen[1]

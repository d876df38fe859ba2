"""Signed distances and areas of the eight shapes, and the bound that keeps them apart.

Every shape lies inside the unit disc around the origin, x to the right and y downwards as in an
image. Sizes are balanced by eye: a disc of radius 1 would look larger than a star of radius 1.

The functions return the distance to the nearest boundary *line or arc*, negative inside. Near an
edge this is the Euclidean distance; outside a corner it is smaller (a mitre), which suits
antialiasing and costs a few array operations.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

CLASS_NAMES = ("circle", "square", "triangle", "star", "ring", "cross", "heart", "crescent")

_CIRCLE = 0.86
_SQUARE = math.sqrt(0.5)
_RING_MIDDLE, _RING_HALF_WIDTH = 0.70, 0.20
_CROSS_LONG, _CROSS_SHORT = 0.945, 0.325
_HEART_HALF_DIAGONAL, _HEART_CENTRE = 0.79, 0.21
_CRESCENT_OFFSET, _CRESCENT_BITE = 0.5, 0.8
_STAR_INNER = 0.46
_SIN36, _COS36 = math.sin(math.pi / 5), math.cos(math.pi / 5)


def circle(x: Array, y: Array) -> Array:
    """Disc of radius 0.86."""
    return np.hypot(x, y) - _CIRCLE


def square(x: Array, y: Array) -> Array:
    """Square with its corners on the unit circle."""
    return np.maximum(np.abs(x), np.abs(y)) - _SQUARE


def triangle(x: Array, y: Array) -> Array:
    """Equilateral triangle, tip up, with its corners on the unit circle."""
    slanted = np.abs(x) * math.sqrt(0.75) - 0.5 * y
    return np.maximum(slanted, y) - 0.5


def star(x: Array, y: Array) -> Array:
    """Five-pointed star, one tip up, tips on the unit circle."""
    up = -y
    across = np.abs(x)
    # Two reflections fold the plane onto one tip; what is left is a single straight edge.
    for side in (1.0, -1.0):
        beyond = 2 * np.maximum(side * _COS36 * across - _SIN36 * up, 0)
        across = across - side * _COS36 * beyond
        up = up + _SIN36 * beyond
    edge_across, edge_up = _STAR_INNER * _SIN36, _STAR_INNER * _COS36 - 1
    length = math.hypot(edge_across, edge_up)
    to_edge = ((up - 1) * edge_across - np.abs(across) * edge_up) / length
    return np.maximum(to_edge, np.hypot(x, y) - 1)  # cuts the mitre beyond the tips


def ring(x: Array, y: Array) -> Array:
    """Annulus between the radii 0.5 and 0.9."""
    return np.abs(np.hypot(x, y) - _RING_MIDDLE) - _RING_HALF_WIDTH


def cross(x: Array, y: Array) -> Array:
    """Upright cross of two equal bars, outer corners on the unit circle."""
    x, y = np.abs(x), np.abs(y)
    return np.maximum(np.maximum(x, y) - _CROSS_LONG, np.minimum(x, y) - _CROSS_SHORT)


def heart(x: Array, y: Array) -> Array:
    """A square on its tip with half discs on its two upper sides."""
    x = np.abs(x)
    half = _HEART_HALF_DIAGONAL
    lobe = np.hypot(x - half / 2, y - (_HEART_CENTRE - half / 2)) - half * math.sqrt(0.5)
    body = (x + np.abs(y - _HEART_CENTRE) - half) * math.sqrt(0.5)
    return np.minimum(lobe, body)


def crescent(x: Array, y: Array) -> Array:
    """The unit disc less a disc of radius 0.8 on its right."""
    bite = _CRESCENT_BITE - np.hypot(x - _CRESCENT_OFFSET, y)
    return np.maximum(np.hypot(x, y) - 1, bite)


def lens_area(radius_a: float, radius_b: float, distance: float) -> float:
    """Area shared by two discs whose centres are ``distance`` apart (all in one unit)."""
    if distance >= radius_a + radius_b:
        return 0.0
    if distance <= abs(radius_a - radius_b):
        return math.pi * min(radius_a, radius_b) ** 2

    def segment(radius: float, other: float) -> float:
        cosine = (distance**2 + radius**2 - other**2) / (2 * distance * radius)
        angle = math.acos(max(-1.0, min(1.0, cosine)))
        return radius**2 * (angle - math.sin(angle) * math.cos(angle))

    return segment(radius_a, radius_b) + segment(radius_b, radius_a)


def closest_approach(
    front: tuple[float, float],
    back: tuple[float, float],
    front_radius: float,
    back_radius: float,
) -> float:
    """Lower bound of the distance of two centres over all canvases, in short sides.

    ``front`` and ``back`` are (row, column) in [0, 1]: 0 touches the near edge of the canvas, 1
    the far edge. Along an axis of length L >= 1 the gap is linear in L, so it can only shrink
    when its value at L = 1 and its slope differ in sign; the bound is then 0. At most one axis is
    longer than the short side.
    """
    at_one, at_any = [], []
    for f, b in zip(front, back, strict=True):
        gap = (front_radius - back_radius) + f * (1 - 2 * front_radius) - b * (1 - 2 * back_radius)
        at_one.append(gap)
        at_any.append(gap if gap * (f - b) >= 0 else 0.0)
    return min(math.hypot(at_any[0], at_one[1]), math.hypot(at_one[0], at_any[1]))


DISTANCES = (circle, square, triangle, star, ring, cross, heart, crescent)
"""Signed distance functions in the order of ``CLASS_NAMES``: (x, y) arrays -> array."""

AREAS = (
    math.pi * _CIRCLE**2,
    4 * _SQUARE**2,
    0.75 * math.sqrt(3),
    5 * _STAR_INNER * _SIN36,
    4 * math.pi * _RING_MIDDLE * _RING_HALF_WIDTH,
    8 * _CROSS_LONG * _CROSS_SHORT - 4 * _CROSS_SHORT**2,
    (2 + math.pi / 2) * _HEART_HALF_DIAGONAL**2,
    math.pi - lens_area(1.0, _CRESCENT_BITE, _CRESCENT_OFFSET),
)
"""Areas in the order of ``CLASS_NAMES``, for bounding radius 1."""

MAX_TILT = (0.0, 8.0, 8.0, 6.0, 0.0, 8.0, 8.0, 20.0)
"""Largest rotation either way in degrees, in the order of ``CLASS_NAMES``."""

"""What measured values allow to be said: intervals of differences, and the verdicts on them."""

import math
from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np
from scipy.special import stdtrit

from diffgen.metrics.intervals import mean_interval

Interval: TypeAlias = tuple[float, float]
"""Low and high end."""
Verdict: TypeAlias = Literal["holds", "fails", "inconclusive"]


def paired_difference(this: Sequence[float], other: Sequence[float]) -> Interval | None:
    """The 95 % interval of the mean of ``this - other``, by Student's t over pairs.

    None where nothing tells how much differences vary: for a single pair, and where all are
    equal. (Shares of few images coincide easily, and an interval without width would be certain.)

    Raises:
        ValueError: there are not as many of the one as of the other.
    """
    differences = [a - b for a, b in zip(this, other, strict=True)]
    return mean_interval(differences) if _vary(differences, _scale(this, other)) else None


def independent_difference(this: Sequence[float], other: Sequence[float]) -> Interval | None:
    """The 95 % interval of ``mean(this) - mean(other)`` of unpaired values (Welch 1947).

    Degrees of freedom by Satterthwaite. None where a side has one value, or neither side varies.
    """
    scale = _scale(this, other)
    if min(len(this), len(other)) < 2 or not (_vary(this, scale) or _vary(other, scale)):
        return None
    a, b = (float(np.var(values, ddof=1)) / len(values) for values in (this, other))
    freedom = (a + b) ** 2 / (a**2 / (len(this) - 1) + b**2 / (len(other) - 1))
    half = float(stdtrit(freedom, 0.975)) * math.sqrt(a + b)
    middle = float(np.mean(this) - np.mean(other))
    return middle - half, middle + half


def _vary(values: Sequence[float], scale: float) -> bool:
    """Whether they differ by more than rounding, of numbers as large as ``scale``."""
    return max(values) - min(values) > 1e-9 * scale


def _scale(this: Sequence[float], other: Sequence[float]) -> float:
    """The largest size of a value: what a difference is rounded by goes with it."""
    return max(map(abs, (*this, *other)))


def extreme_differences(this: Interval, other: Interval) -> Interval:
    """The least and the greatest ``this - other``: without 0 where the two intervals are apart."""
    return this[0] - other[1], this[1] - other[0]


def verdict_of(difference: Interval | None, direction: Literal["lower", "higher"]) -> Verdict:
    """What the interval of ``this - other`` says about "this is lower", or "higher".

    ``holds`` with all of it on the expected side of 0, ``fails`` with all of it on the other;
    ``inconclusive`` where it holds or touches 0, or where there is none.
    """
    if difference is None:
        return "inconclusive"
    low, high = difference if direction == "higher" else (-difference[1], -difference[0])
    if low > 0:
        return "holds"
    return "fails" if high < 0 else "inconclusive"


def verdict_of_claim(decisive: Sequence[Verdict], conditions: Sequence[Verdict] = ()) -> Verdict:
    """The verdict on a claim from those on its comparisons.

    ``inconclusive`` unless every condition holds; then ``fails`` if a decisive comparison fails,
    ``holds`` if all of them hold, and otherwise ``inconclusive``.

    Raises:
        ValueError: no comparison is decisive.
    """
    if not decisive:
        raise ValueError("a claim needs a decisive comparison")
    if any(verdict != "holds" for verdict in conditions):
        return "inconclusive"
    if "fails" in decisive:
        return "fails"
    return "inconclusive" if "inconclusive" in decisive else "holds"

"""Intervals for shares and means."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

Z95 = 1.959963984540054
ROUNDING = 1e-12
"""A standard error below this share of its figure is what rounding leaves of 0."""
Interval = tuple[float, float]


@dataclass(frozen=True)
class Estimate:
    """A figure with its uncertainty, both in the figure's unit.

    Attributes:
        value: the figure.
        standard_error: of `value`.
        interval: 95 %, about `value`; None: nothing varied, so it is not known how much it could.
    """

    value: float
    standard_error: float
    interval: Interval | None


def students(value: float, standard_error: float, freedom: int) -> Estimate:
    """An estimate with Student's interval of ``freedom`` degrees; 0 degrees leave none."""
    if freedom < 1 or not standard_error > ROUNDING * abs(value):
        return Estimate(value, standard_error, None)
    half = float(stdtrit(freedom, 0.975)) * standard_error
    return Estimate(value, standard_error, (value - half, value + half))


def wilson(successes: int, count: int) -> Interval:
    """The 95 % interval of a share (Wilson 1927); ``count`` at least 1."""
    share, z2 = successes / count, Z95**2
    centre = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = Z95 * math.sqrt(share * (1 - share) / count + z2 / (4 * count**2)) / (1 + z2 / count)
    return max(0.0, centre - half), min(1.0, centre + half)


def mean_estimate(values: Sequence[float]) -> Estimate:
    """The mean of independent values, by Student's t; no interval where they do not vary."""
    mean, count = float(np.mean(values)), len(values)
    error = float(np.std(values, ddof=1)) / math.sqrt(count) if count > 1 else math.nan
    return students(mean, error, count - 1)


def mean_interval(values: Sequence[float]) -> Interval:
    """The 95 % interval of a mean of independent values, by Student's t; infinite for one value.

    Equal values give it no width, which says nothing: see ``mean_estimate``.
    """
    if len(values) == 1:
        return -math.inf, math.inf
    found = mean_estimate(values)
    return found.interval or (found.value, found.value)

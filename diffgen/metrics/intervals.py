"""Intervals for shares and means."""

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import stdtrit

Z95 = 1.959963984540054


def wilson(successes: int, count: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927); ``count`` at least 1."""
    share, z2 = successes / count, Z95**2
    centre = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = Z95 * math.sqrt(share * (1 - share) / count + z2 / (4 * count**2)) / (1 + z2 / count)
    return max(0.0, centre - half), min(1.0, centre + half)


def mean_interval(values: Sequence[float]) -> tuple[float, float]:
    """The 95 % interval of a mean of independent values, by Student's t; infinite for one value."""
    mean, count = float(np.mean(values)), len(values)
    if count == 1:
        return -math.inf, math.inf
    half = float(stdtrit(count - 1, 0.975) * np.std(values, ddof=1) / math.sqrt(count))
    return mean - half, mean + half

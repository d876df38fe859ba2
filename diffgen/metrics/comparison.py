"""Does one figure differ from another? "inconclusive" unless their intervals are apart.

Two disjoint 95 % intervals are more than a 5 % test asks for: with equal widths their centres
are 2.8 standard errors of the difference apart, which chance does in about 0.6 % of cases. The
caution is wanted where a table holds many pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from diffgen.metrics.intervals import mean_interval

Verdict = Literal["lower", "higher", "inconclusive"]
Interval = tuple[float, float]


def verdict(first: Interval, second: Interval) -> Verdict:
    """How `first` lies to `second`, both (low, high); "inconclusive" where they meet.

    An end may be infinite, or NaN where nothing is known, which is never conclusive.
    Raises ValueError for low above high.
    """
    for low, high in (first, second):
        if low > high:
            raise ValueError(f"an interval must be (low, high), got ({low}, {high})")
    if first[1] < second[0]:
        return "lower"
    return "higher" if first[0] > second[1] else "inconclusive"


def verdict_of_seeds(first: Sequence[float], second: Sequence[float]) -> Verdict:
    """How the mean of `first` lies to that of `second`, one value a seed, by Student's t.

    The seeds of both sides are taken as independent. One value says nothing about its spread, so
    with fewer than two on a side the answer is "inconclusive". ValueError for none.
    """
    for values in (first, second):
        if not values:
            raise ValueError("a comparison needs at least one value on each side, got none")
    return verdict(mean_interval(first), mean_interval(second))

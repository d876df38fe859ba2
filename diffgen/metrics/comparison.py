"""Does one figure differ from another? "inconclusive" unless their intervals are apart.

Two disjoint 95 % intervals are more than a 5 % test asks for: with equal widths their centres
are 2.8 standard errors of the difference apart, which chance does in about 0.6 % of cases. The
caution is wanted where a table holds many pairs.
"""

from __future__ import annotations

from typing import Literal

from diffgen.metrics.intervals import Interval

Verdict = Literal["lower", "higher", "inconclusive"]


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

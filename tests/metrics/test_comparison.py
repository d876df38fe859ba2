"""Verdicts on pairs of figures."""

import math

import pytest

from diffgen.metrics.comparison import verdict, verdict_of_seeds


def test_intervals_that_are_apart_decide():
    assert verdict((1.0, 2.0), (2.5, 3.0)) == "lower"
    assert verdict((2.5, 3.0), (1.0, 2.0)) == "higher"
    assert verdict((-3.0, -2.0), (-1.0, 4.0)) == "lower"


@pytest.mark.parametrize(
    "second",
    [(1.9, 3.0), (2.0, 3.0), (0.0, 5.0), (1.0, 2.0), (-math.inf, math.inf), (math.nan, math.nan)],
)
def test_intervals_that_meet_or_are_unknown_do_not(second):
    assert verdict((1.0, 2.0), second) == "inconclusive"
    assert verdict(second, (1.0, 2.0)) == "inconclusive"


def test_equal_figures_without_a_width_are_inconclusive():
    assert verdict((1.0, 1.0), (1.0, 1.0)) == "inconclusive"


def test_seeds_decide_by_students_intervals():
    """Three seeds 0.1 apart: 4.303 x 0.1 / sqrt 3 = 0.248 on either side of the mean."""
    low = [0.9, 1.0, 1.1]
    assert verdict_of_seeds(low, [x + 0.48 for x in low]) == "inconclusive"
    assert verdict_of_seeds(low, [x + 0.51 for x in low]) == "lower"
    assert verdict_of_seeds([x + 0.51 for x in low], low) == "higher"


def test_the_same_means_from_more_seeds_decide():
    assert verdict_of_seeds([1.0, 1.2], [1.5, 1.7]) == "inconclusive"
    assert verdict_of_seeds([1.0, 1.2] * 4, [1.5, 1.7] * 4) == "lower"


def test_one_seed_never_decides():
    assert verdict_of_seeds([1.0], [9.0, 9.1, 9.2]) == "inconclusive"
    assert verdict_of_seeds([1.0], [9.0]) == "inconclusive"


def test_unusable_input_is_refused():
    with pytest.raises(ValueError, match=r"\(low, high\), got \(2.0, 1.0\)"):
        verdict((2.0, 1.0), (3.0, 4.0))
    with pytest.raises(ValueError, match="at least one value on each side, got none"):
        verdict_of_seeds([1.0], [])

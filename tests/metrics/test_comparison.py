"""Verdicts on pairs of figures."""

import math

import pytest

from diffgen.metrics.comparison import verdict
from diffgen.metrics.intervals import mean_interval


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
    low = mean_interval([0.9, 1.0, 1.1])
    assert verdict(low, mean_interval([1.38, 1.48, 1.58])) == "inconclusive"
    assert verdict(low, mean_interval([1.41, 1.51, 1.61])) == "lower"
    assert verdict(mean_interval([1.41, 1.51, 1.61]), low) == "higher"


def test_the_same_means_from_more_seeds_decide():
    few, many = ([mean_interval(pair * n) for pair in ([1.0, 1.2], [1.5, 1.7])] for n in (1, 4))
    assert verdict(*few) == "inconclusive"
    assert verdict(*many) == "lower"


def test_one_seed_never_decides_by_its_spread():
    assert verdict(mean_interval([1.0]), mean_interval([9.0, 9.1, 9.2])) == "inconclusive"


def test_unusable_input_is_refused():
    with pytest.raises(ValueError, match=r"\(low, high\), got \(2.0, 1.0\)"):
        verdict((2.0, 1.0), (3.0, 4.0))

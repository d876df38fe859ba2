"""Intervals of shares and means."""

import math

import pytest

from diffgen.metrics.intervals import mean_estimate, mean_interval, wilson


def test_a_mean_by_students_t():
    """Three values 0.1 apart: 4.303 x 0.1 / sqrt 3 on either side."""
    found = mean_estimate([0.9, 1.0, 1.1])
    half = 4.3026527 * 0.1 / math.sqrt(3)
    assert found.value == pytest.approx(1)
    assert found.standard_error == pytest.approx(0.1 / math.sqrt(3))
    assert found.interval == pytest.approx((1 - half, 1 + half))
    assert mean_interval([0.9, 1.0, 1.1]) == found.interval


@pytest.mark.parametrize("values", [[0.1] * 3, [0.0, 0.0], [7.0]])
def test_values_that_do_not_vary_have_no_interval(values):
    assert mean_estimate(values).interval is None


def test_one_value_may_lie_anywhere():
    assert mean_interval([7.0]) == (-math.inf, math.inf)


def test_wilsons_interval_of_none_and_of_half():
    """Of 0 from n: z² / (n + z²). Of a half: about 1/2."""
    z2 = 1.959963984540054**2
    assert wilson(0, 10) == pytest.approx((0, z2 / (10 + z2)))
    low, high = wilson(50, 100)
    assert low + high == pytest.approx(1)
    assert low == pytest.approx(0.4038, abs=1e-4)

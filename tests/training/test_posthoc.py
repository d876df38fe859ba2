"""Rebuilding averages of any width from stored ones."""

import numpy as np
import pytest

from diffgen.training.ema import gamma_of_width, power_decay
from diffgen.training.posthoc import Profile, coefficients, overlap

STEPS, BATCH, DIMENSIONS = 4000, 16, 64


def profile(p: Profile, s: np.ndarray) -> np.ndarray:
    gamma = gamma_of_width(p.width)
    inside = (gamma + 1) * s**gamma / float(p.seen) ** (gamma + 1)
    return np.where(s <= p.seen, inside, 0.0)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (Profile(0.05, 1000), Profile(0.05, 1000)),
        (Profile(0.05, 1000), Profile(0.10, 1000)),
        (Profile(0.05, 1000), Profile(0.10, 700)),
        (Profile(0.25, 300), Profile(0.10, 1000)),
    ],
)
def test_the_overlap_is_the_integral_of_the_product(a, b):
    s = (np.arange(200_000) + 0.5) * 1000 / 200_000
    expected = (profile(a, s) * profile(b, s)).sum() * 1000 / 200_000
    assert overlap(a, b) == pytest.approx(expected, rel=1e-4)
    assert overlap(b, a) == pytest.approx(overlap(a, b), rel=1e-12)


def snapshots(count: int = 8) -> list[Profile]:
    return [
        Profile(width, STEPS * BATCH * k // count)
        for k in range(1, count + 1)
        for width in (0.05, 0.10)
    ]


def test_a_stored_average_is_rebuilt_exactly():
    stored = snapshots()
    for index, wanted in enumerate(stored):
        expected = np.eye(len(stored))[index]
        np.testing.assert_allclose(coefficients(stored, wanted), expected, atol=1e-6)


@pytest.mark.parametrize("width", [0.04, 0.07, 0.13, 0.15])
def test_the_coefficients_are_an_average(width):
    assert coefficients(snapshots(), Profile(width, STEPS * BATCH)).sum() == pytest.approx(
        1, abs=0.01
    )


def random_walk_averages(widths: tuple[float, ...]) -> tuple[np.ndarray, dict]:
    """Weights that go a random walk; {Profile: average} of every width at every snapshot."""
    rng = np.random.default_rng(0)
    weights = np.zeros(DIMENSIONS)
    averages = {width: np.zeros(DIMENSIONS) for width in widths}
    kept = {}
    times = {p.seen for p in snapshots()}
    for step in range(1, STEPS + 1):
        weights = weights + rng.normal(size=DIMENSIONS)
        seen = step * BATCH
        for width in widths:
            beta = power_decay(gamma_of_width(width), seen, BATCH)
            averages[width] = beta * averages[width] + (1 - beta) * weights
            if seen in times:
                kept[Profile(width, seen)] = averages[width]
    return weights, kept


@pytest.mark.parametrize("width", [0.07, 0.12, 0.15])
def test_an_untracked_width_is_rebuilt_from_snapshots_of_a_training(width):
    """Far nearer to the directly tracked average than that is to any stored one."""
    stored = snapshots()
    weights, kept = random_walk_averages((0.05, 0.10, width))
    wanted = Profile(width, STEPS * BATCH)
    direct = kept[wanted]
    shares = coefficients(stored, wanted)
    rebuilt = sum(share * kept[p] for share, p in zip(shares, stored, strict=True))
    error = np.linalg.norm(rebuilt - direct)
    nearest = min(np.linalg.norm(kept[p] - direct) for p in stored)
    assert error < 0.1 * nearest
    assert error < 0.02 * np.linalg.norm(weights - direct)

"""Gaussians with kept factors give `frechet_distance`, whatever the ranks."""

import pytest
import torch
from torch import Tensor

from diffgen.metrics.frechet import distance, frechet_distance
from diffgen.metrics.gaussian import Gaussian
from diffgen.metrics.moments import Moments, moments

SIZE = 24


def normal(count: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(SIZE, SIZE, generator=generator, dtype=torch.float64)
    return torch.randn(count, SIZE, generator=generator, dtype=torch.float64) @ mixing + seed


SETS = {
    "full rank": normal(90, 1),
    "few rows": normal(10, 2),
    "as many rows as features": normal(SIZE, 3),
    "dead feature": normal(80, 4) * (torch.arange(SIZE) != 5),
    "repeated rows": normal(6, 5).repeat(9, 1),
}


@pytest.mark.parametrize("first", SETS)
@pytest.mark.parametrize("second", SETS)
def test_distance_of_features(first, second):
    real, fake = SETS[first], SETS[second]
    expected = frechet_distance(real, fake)
    assert distance(Gaussian.of(real), Gaussian.of(fake)) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("second", SETS)
@pytest.mark.parametrize("first", ["full rank", "few rows", "as many rows as features"])
def test_distance_from_stored_moments(first, second):
    real, fake = SETS[first], SETS[second]
    stored = Gaussian.of(moments(real))
    assert stored.features is None
    assert distance(stored, Gaussian.of(fake)) == pytest.approx(
        frechet_distance(real, fake), abs=1e-9
    )


def test_moments_of_an_unknown_count_may_be_of_low_rank():
    """Eigenvalues that should be 0 leave digits then, not a wrong distance."""
    known = moments(SETS["few rows"])
    stored = Gaussian.of(Moments(None, known.mean, known.cov))
    expected = frechet_distance(SETS["few rows"], SETS["full rank"])
    assert stored.factor is None
    assert distance(stored, Gaussian.of(SETS["full rank"])) == pytest.approx(expected, abs=1e-4)


def test_roots_square_to_the_covariance():
    for features in SETS.values():
        root = Gaussian.of(features).root
        torch.testing.assert_close(root.T @ root, moments(features).cov, rtol=1e-9, atol=1e-9)

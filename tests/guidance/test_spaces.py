"""Predictions as functions of x0, there and back."""

import math

import pytest
import torch

from diffgen.guidance.spaces import Level, noise_level


def unit(seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, 3, 4, 4, generator=generator, dtype=torch.float64)


X0, EPS = unit(0), unit(1)


@pytest.mark.parametrize(("alpha", "sigma"), [(0.6, 0.8), (0.3, 0.7), (1.0, 5.0)])
def test_each_is_what_its_name_says_and_leads_back(alpha, sigma):
    level = Level(alpha * X0 + sigma * EPS, alpha, sigma)
    expected = {"x0": X0, "eps": EPS, "velocity": EPS - X0}
    if alpha**2 + sigma**2 == pytest.approx(1):
        expected["v"] = alpha * EPS - sigma * X0
    for kind, wanted in expected.items():
        found = level.from_x0(kind, X0)
        torch.testing.assert_close(found, wanted)
        torch.testing.assert_close(level.to_x0(kind, found), X0)


def test_pure_noise_has_an_infinite_level():
    assert noise_level(0.0, 1.0) == math.inf
    level = Level(EPS, 0.0, 1.0)
    torch.testing.assert_close(level.to_x0("velocity", level.from_x0("velocity", X0)), X0)


def test_other_kinds_are_refused():
    level = Level(EPS, 0.6, 0.8)
    for convert in (level.from_x0, level.to_x0):
        with pytest.raises(ValueError, match="prediction 'score' is not one of"):
            convert("score", X0)

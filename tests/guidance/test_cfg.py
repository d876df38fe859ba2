"""Classifier-free guidance as a rule and as a formula."""

import dataclasses
import math

import pytest
import torch

from diffgen.guidance import CFG
from diffgen.guidance.cfg import cfg

COND = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
UNCOND = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(1))


def test_the_formula_at_values_worked_out_by_hand():
    cond, uncond = torch.tensor([3.0, -1.0]), torch.tensor([1.0, 1.0])
    assert cfg(cond, uncond, 4.0).tolist() == [9.0, -7.0]
    assert cfg(cond, uncond, 0.5).tolist() == [2.0, 0.0]


def test_scale_0_is_unconditional_1_conditional_and_equal_predictions_stay():
    assert torch.equal(cfg(COND, UNCOND, 0.0), UNCOND)
    torch.testing.assert_close(cfg(COND, UNCOND, 1.0), COND)
    assert torch.equal(cfg(COND, COND, 7.5), COND)


def test_guiding_x0_is_guiding_the_velocity():
    """At one x_t and t the two differ by a linear map, so the order does not matter."""
    x_t, t = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(2)), 0.7
    velocities = [(x_t - x0) / t for x0 in (COND, UNCOND)]
    torch.testing.assert_close((x_t - cfg(COND, UNCOND, 3.0)) / t, cfg(*velocities, 3.0))


@pytest.mark.parametrize("level", [0.0, 1.0, math.inf])
def test_only_scale_1_spares_the_unconditional_pass(level):
    assert CFG(1.0).begin().passes(level) == ("cond",)
    assert set(CFG(2.0).begin().passes(level)) == {"cond", "uncond"}
    assert "uncond" in CFG(0.0).begin().passes(level)


def test_the_rule_applies_the_formula_and_ignores_the_solvers_stage():
    run = CFG(3.0).begin()
    expected = UNCOND + 3.0 * (COND - UNCOND)
    for advance in (True, False, True):
        out = run(COND, UNCOND, x_t=COND, alpha=0.4, sigma=0.6, advance=advance)
        torch.testing.assert_close(out, expected)
    assert torch.equal(CFG(1.0).begin()(COND, None), COND)


def test_the_rule_is_immutable():
    rule = CFG(3.0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        rule.scale = 1.0
    assert rule == CFG(3.0)

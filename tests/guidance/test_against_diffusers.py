"""The same numbers as diffusers' guiders, where they do the same."""

import pytest
import torch
from diffusers.guiders import AdaptiveProjectedGuidance, ClassifierFreeZeroStarGuidance
from diffusers.guiders.guider_utils import rescale_noise_cfg

from diffgen.guidance import APG, CFGZeroStar
from diffgen.guidance.rescale import rescale
from diffgen.guidance.spaces import Level

STEPS = 4


def unit(seed: int) -> torch.Tensor:
    return torch.randn(STEPS, 2, 3, 6, 5, generator=torch.Generator().manual_seed(seed))


COND, UNCOND, X_T = (unit(seed) for seed in range(3))
LEVELS = [(alpha, (1 - alpha**2) ** 0.5) for alpha in (0.1, 0.4, 0.7, 0.9)]


def theirs(guider, cond: torch.Tensor, uncond: torch.Tensor) -> torch.Tensor:
    """A guider's predictions of successive steps, in its own protocol."""
    found = []
    for step in range(STEPS):
        guider.set_state(step, STEPS, torch.tensor(step))
        guider.prepare_inputs({"latents": (cond[step], uncond[step])})
        found.append(guider(guider_state(guider, cond[step], uncond[step])).pred)
    return torch.stack(found)


def guider_state(guider, cond: torch.Tensor, uncond: torch.Tensor) -> list:
    batches = guider.prepare_inputs({"latents": (cond, uncond)})
    for batch, prediction in zip(batches, (cond, uncond), strict=False):
        batch.noise_pred = prediction
    return batches


@pytest.mark.parametrize("raw", ["eps", "v", "velocity"])
@pytest.mark.parametrize(("combine", "original"), [("uncond", False), ("cond", True)])
@pytest.mark.parametrize(
    ("eta", "threshold", "momentum"), [(1.0, 3.0, 0.0), (0.0, 3.0, -0.5), (0.3, 0.0, 0.4)]
)
def test_apg_in_raw_space_is_that_of_diffusers(raw, combine, original, eta, threshold, momentum):
    """Theirs on what the model predicts; ours is given the x0 that this says.

    Their other form counts its scale from 0: Dc + scale update.
    """
    guider = AdaptiveProjectedGuidance(
        guidance_scale=4.0 if original else 5.0,
        adaptive_projected_guidance_momentum=momentum or None,
        adaptive_projected_guidance_rescale=threshold,
        eta=eta,
        use_original_formulation=original,
    )
    expected = theirs(guider, COND, UNCOND)
    rule = APG(5.0, eta, threshold, momentum, "norm", space="raw", combine=combine)
    run = rule.begin(raw)
    for step, (alpha, sigma) in enumerate(LEVELS):
        level = Level(X_T[step].double(), alpha, sigma)
        x0 = [level.to_x0(raw, part[step].double()) for part in (COND, UNCOND)]
        guided = run(*x0, x_t=level.x_t, alpha=alpha, sigma=sigma)
        found = level.from_x0(raw, guided).float()
        torch.testing.assert_close(found, expected[step], rtol=1e-5, atol=1e-5)


def test_cfg_zero_star_is_that_of_diffusers_on_velocities():
    """The first step's level is infinite, so it stands still, as theirs does."""
    levels = [(0.0, 1.0), *LEVELS[1:]]
    expected = theirs(ClassifierFreeZeroStarGuidance(guidance_scale=5.0), COND, UNCOND)
    assert torch.equal(expected[0], torch.zeros_like(expected[0]))
    run = CFGZeroStar(5.0).begin()
    for step, (alpha, sigma) in enumerate(levels):
        level = Level(X_T[step].double(), alpha, sigma)
        x0 = [level.to_x0("velocity", part[step].double()) for part in (COND, UNCOND)]
        guided = run(*x0, x_t=level.x_t, alpha=alpha, sigma=sigma)
        found = level.from_x0("velocity", guided).float()
        torch.testing.assert_close(found, expected[step], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("share", [0.0, 0.7, 1.0])
def test_rescale_is_that_of_diffusers(share):
    found = rescale(COND[0], UNCOND[0], share)
    torch.testing.assert_close(found, rescale_noise_cfg(COND[0], UNCOND[0], share))

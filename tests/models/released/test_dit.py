"""The chain against the released DiT: noising, the learned-variance loss, respaced sampling."""

import pytest
import torch
from diffusers import DDIMScheduler

from diffgen.config.model import TimeConvention
from diffgen.config.process import DDPMConfig
from diffgen.guidance import CFG, FirstChannels
from diffgen.processes import DDPM
from diffgen.sampling.guided import Denoiser
from diffgen.sampling.schedulers import build_scheduler, set_steps
from diffgen.sampling.walk import walk

CHAIN = DDPM(TimeConvention(), "eps", DDPMConfig(learned_variance=True))


@torch.no_grad()
def test_the_released_training_losses(released_dit):
    model, golden = released_dit()
    x0, eps, y = (golden[name] for name in ("train.x0", "train.noise", "y"))
    t = (golden["t"] + 1) / 1000  # steps 0, 417, 999
    x_t = CHAIN.add_noise(x0, eps, t)
    mse, vb = CHAIN.loss_terms(model, x0, eps, t, y)
    loss = CHAIN.loss(model, x0, eps, t, y)
    for found, name in ((x_t, "x_t"), (mse, "mse"), (vb, "vb"), (loss, "loss")):
        torch.testing.assert_close(found, golden[f"train.{name}"], rtol=0, atol=1e-4)
    assert vb[0] > 100 * vb[1]  # the first step's likelihood, not its divergence


@pytest.mark.parametrize(
    ("rule", "name"),
    [(CFG(1.0), "conditional"), (FirstChannels(CFG(4.0), 3), "cfg4_three_channels")],
)
def test_the_released_ddim_trajectories(released_dit, rule, name):
    model, golden = released_dit()
    solver = build_scheduler("ddim", process=CHAIN.config)
    solver = DDIMScheduler.from_config(solver.config, timestep_spacing="leading")
    set_steps(solver, 10, "cpu")
    assert solver.timesteps.tolist() == golden["ddim10.timesteps"].tolist()[::-1]
    noise, y = golden["ddim10.noise"], golden["ddim10.y"]
    out = walk(Denoiser(model, CHAIN), solver, rule, noise, y, model.num_classes)
    expected = golden[f"ddim10.{name}"]
    assert (out - expected).abs().max() < 1e-4 * expected.abs().max()

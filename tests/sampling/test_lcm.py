"""The solver of distilled models: x0, then fresh noise to the next level, and at the end x0."""

import pytest
import torch
from diffusers import LCMScheduler

from diffgen.config.process import DDPMConfig, FlowConfig
from diffgen.config.sampling import SamplingConfig
from diffgen.processes import Denoised, build_process
from diffgen.sampling.batches import set_up
from diffgen.sampling.schedulers import build_scheduler, set_steps, solver_step, step_times
from tests.tiny import build

SHORT = DDPMConfig(num_train_timesteps=50, betas="cosine")
PROCESSES = [FlowConfig(), DDPMConfig(), SHORT]
GRIDS = {1: [999], 2: [999, 499], 4: [999, 749, 499, 249]}


def ready(process, steps: int):
    scheduler = build_scheduler("lcm", process=process)
    set_steps(scheduler, steps, "cpu")
    return scheduler


def unit(seed: int) -> torch.Tensor:
    return torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("steps", "grid"), GRIDS.items())
def test_a_chain_is_walked_at_the_steps_of_the_released_scheduler(steps, grid):
    scheduler = ready(DDPMConfig(), steps)
    assert scheduler.timesteps.tolist() == grid
    own = LCMScheduler.from_config(scheduler.config)  # as diffusers alone would walk it
    own.set_timesteps(steps)
    assert own.timesteps.tolist() == grid


@pytest.mark.parametrize("process", PROCESSES, ids=["flow", "chain", "short"])
@pytest.mark.parametrize("steps", [1, 2, 4, 8])
def test_n_steps_are_at_n_equal_shares_from_noise_on(process, steps):
    times = step_times(ready(process, steps))
    coarse = 0.501 / 50 if process is SHORT else 1e-6  # half a step of the chain
    assert times == pytest.approx([k / steps for k in range(steps, 0, -1)], abs=coarse)
    assert times[0] == 1


@pytest.mark.parametrize("process", PROCESSES, ids=["flow", "chain", "short"])
def test_a_step_adds_each_images_own_noise_to_x0_at_the_next_level(process):
    scheduler, x, x0 = ready(process, 4), unit(0), unit(1)
    model = build_process(process, build().transformer.convention, "x0")
    times = step_times(scheduler)
    for timestep, t, after in zip(scheduler.timesteps, times, times[1:], strict=False):
        generators = [torch.Generator().manual_seed(7 + k) for k in range(2)]
        noise = torch.stack(
            [torch.randn(3, 4, 4, generator=torch.Generator().manual_seed(7 + k)) for k in (0, 1)]
        )
        x = solver_step(scheduler, Denoised(x0), timestep, x, t, generators)
        expected = model.add_noise(x0, noise, torch.full((2,), after))
        torch.testing.assert_close(x, expected, rtol=0, atol=2e-6)
    assert torch.equal(
        solver_step(scheduler, Denoised(x0), scheduler.timesteps[-1], x, times[-1], None), x0
    )


def test_the_spacing_of_another_solvers_steps_is_not_its_own():
    """Leading steps begin short of full noise, which a converted model's DDIM keeps."""
    pipe = build(prediction="eps")
    ddim = build_scheduler("ddim", process=DDPMConfig())
    pipe.scheduler = type(ddim).from_config(ddim.config, timestep_spacing="leading")
    set_up(pipe, SamplingConfig(scheduler="lcm"))
    set_steps(pipe.scheduler, 4, "cpu")
    assert pipe.scheduler.config.timestep_spacing == "trailing"
    assert pipe.scheduler.timesteps.tolist() == GRIDS[4]

"""diffusers' DDPM solvers on one grid of steps.

Left to themselves they choose different grids, DDIM's last step stops short of the image unless
the number of steps divides the chain, and linspace ends with a step that moves nothing. Here every
one evaluates the model at ``processes.schedule.sampling_steps`` and ends at the image.
"""

from typing import Any, TypeAlias

import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    LCMScheduler,
)
from torch import Tensor

from diffgen.config.process import DDPMConfig
from diffgen.errors import UserError
from diffgen.processes.schedule import alpha_bar, sampling_steps

DDPMSolver: TypeAlias = DDIMScheduler | DDPMScheduler | DPMSolverMultistepScheduler | LCMScheduler
LCM_STEPS = 4  # of which a walk without diffgen takes its own; diffgen sets them itself
NO_SKIP = 1e9  # LCM's share of x_t in its x0 is (0.5 / (NO_SKIP k))^2 at step k: none


def build_ddpm_solver(name: str, process: DDPMConfig) -> DDPMSolver:
    """The diffusers scheduler called ``ddim``, ``ddpm``, ``dpmpp`` or ``lcm``, for this chain.

    It is given x0 whatever the model predicts, and clips nothing.
    """
    settings = {
        **process.beta_settings(),
        "prediction_type": "sample",
        "timestep_spacing": "trailing",
    }
    match name:
        case "ddim":
            return DDIMScheduler(clip_sample=False, **settings)
        case "ddpm":
            variance_type = "learned" if process.learned_variance else "fixed_small"
            return DDPMScheduler(clip_sample=False, variance_type=variance_type, **settings)
        case "dpmpp":
            return DPMSolverMultistepScheduler(**settings)
        case "lcm":
            return LCMScheduler(
                original_inference_steps=LCM_STEPS, timestep_scaling=NO_SKIP, **settings
            )
    raise UserError(f"scheduler: {name!r} is not one of {', '.join(process.schedulers)}")


def set_ddpm_steps(scheduler: Any, count: int, device: torch.device | str) -> None:
    """Put ``count`` steps of the grid its ``timestep_spacing`` names into a scheduler.

    Raises:
        UserError: the scheduler is none that walks a DDPM model here, or the chain is shorter.
    """
    config, name = scheduler.config, type(scheduler).__name__
    if not isinstance(scheduler, DDPMSolver):
        known = "ddim, ddpm, dpmpp or lcm"
        raise UserError(f"scheduler: {name} cannot walk a ddpm model; use {known}")
    if config.prediction_type != "sample" or config.get("variance_type") == "learned_range":
        raise UserError(
            f"scheduler: {name} must have prediction_type 'sample', and variance_type 'learned' if "
            "any: diffgen hands it x0 and the variance, whatever the model predicts"
        )
    if count > config.num_train_timesteps:
        raise UserError(
            f"steps: {count} is more than the model's {config.num_train_timesteps} noise levels"
        )
    # The fresh noise of LCM hides nothing that a start short of full noise left out.
    spacing: Any = config.timestep_spacing
    spacing = "trailing" if isinstance(scheduler, LCMScheduler) else spacing
    grid = sampling_steps(config.num_train_timesteps, count, spacing)
    if spacing == "leading":  # diffusers' own, kept by converted models
        last = config.num_train_timesteps - 1
        grid = [min(step + config.get("steps_offset", 0), last) for step in grid]
    match scheduler:
        case DDPMScheduler():
            scheduler.set_timesteps(timesteps=grid, device=device)
        case DDIMScheduler():
            scheduler.set_timesteps(count, device=device)
            scheduler.timesteps = torch.tensor(grid, device=device)
            # It steps by T // num_inference_steps: walk one by one, on levels held between steps.
            scheduler.num_inference_steps = config.num_train_timesteps
            scheduler.alphas_cumprod = held_levels(alpha_bar(scheduler.betas.double()), grid)
        case DPMSolverMultistepScheduler():
            scheduler.set_timesteps(count, device=device)
            abar = alpha_bar(scheduler.betas.double())[torch.tensor(grid) + 1]
            scheduler.timesteps = torch.tensor(grid, device=device)
            scheduler.sigmas = torch.cat([((1 - abar) / abar).sqrt(), abar.new_zeros(1)]).float()
            scheduler.set_begin_index(0)  # walk by position, never by searching for equal floats
        case LCMScheduler():
            scheduler.set_timesteps(count, original_inference_steps=max(LCM_STEPS, count))
            scheduler.timesteps = torch.tensor(grid, device=device)
            scheduler.alphas_cumprod = alpha_bar(scheduler.betas.double())[1:].float()
            scheduler.set_begin_index(0)


def held_levels(abar: Tensor, grid: list[int]) -> Tensor:
    """A chain that moves at the steps of ``grid`` alone: (T,) fp32.

    ``abar`` (T + 1,) as in ``processes.schedule.alpha_bar``. Step k has the level of the noisiest
    step of ``grid`` up to k, and before the first that of the clean image.
    """
    kept = torch.zeros(len(abar) - 1, dtype=torch.long)
    kept[grid] = torch.tensor(grid) + 1
    return abar[kept.cummax(0).values].float()

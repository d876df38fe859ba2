"""diffusers' flow schedulers on one grid: n steps are n useful ones.

Left to themselves the schedulers choose different grids, some with steps that move nothing
(FlowMatchEuler at n = 2 steps over sigmas 1, 0.001, 0). Here every one walks
1, (n - 1) / n, ..., 1 / n, 0, passed through the size shift s (Esser et al. 2024, eq. 23):
sigma' = s sigma / (1 + (s - 1) sigma).
"""

from typing import Any, TypeAlias

import torch
from diffusers import (
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
)
from torch import Tensor

from diffgen.errors import UserError

FlowScheduler: TypeAlias = (
    FlowMatchEulerDiscreteScheduler | FlowMatchHeunDiscreteScheduler | DPMSolverMultistepScheduler
)
TRAIN_STEPS = 1000  # diffusers writes times as sigma * 1000


def build_scheduler(name: str, shift: float = 1.0) -> FlowScheduler:
    """The diffusers scheduler called ``euler``, ``heun`` or ``dpmpp``, set up for flow models."""
    match name:
        case "euler":
            return FlowMatchEulerDiscreteScheduler(shift=shift)
        case "heun":
            return FlowMatchHeunDiscreteScheduler(shift=shift)
        case "dpmpp":
            return DPMSolverMultistepScheduler(
                prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift
            )
    raise UserError(f"scheduler: {name!r} is not one of euler, heun, dpmpp")


def flow_sigmas(steps: int, shift: float = 1.0) -> Tensor:
    """(steps,) fp32 noise levels 1 ... 1/n before the final 0, through the shift."""
    sigmas = torch.arange(steps, 0, -1, dtype=torch.float64) / steps
    return (shift * sigmas / (1 + (shift - 1) * sigmas)).float()


def set_flow_sigmas(scheduler: Any, steps: int, device: torch.device | str) -> None:
    """Put ``steps`` steps of the common grid into a diffusers scheduler.

    Raises:
        UserError: the scheduler is none that walks a flow here.
    """
    match scheduler:
        case FlowMatchEulerDiscreteScheduler():  # the only one that takes sigmas; it shifts them
            scheduler.set_timesteps(sigmas=flow_sigmas(steps).tolist(), device=device)
        case FlowMatchHeunDiscreteScheduler():  # a step but the last is two evaluations
            scheduler.set_timesteps(steps, device=device)
            sigmas = flow_sigmas(steps, scheduler.config.shift).to(device)
            doubled = torch.cat([sigmas[:1], sigmas[1:].repeat_interleave(2)])
            scheduler.timesteps = doubled * TRAIN_STEPS
            scheduler.sigmas = torch.cat([doubled, doubled.new_zeros(1)])
        case DPMSolverMultistepScheduler() if scheduler.config.use_flow_sigmas:
            scheduler.set_timesteps(steps, device=device)
            sigmas = flow_sigmas(steps, scheduler.config.flow_shift)
            scheduler.timesteps = (sigmas * TRAIN_STEPS).to(device)
            scheduler.sigmas = torch.cat([sigmas, sigmas.new_zeros(1)])
        case _:
            raise UserError(
                f"scheduler: {type(scheduler).__name__} cannot walk a flow model; "
                "use euler, heun or dpmpp"
            )
    scheduler.set_begin_index(0)  # walk by position, never by searching for equal floats

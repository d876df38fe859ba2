"""diffusers' schedulers on one grid: n steps are n useful ones.

Left to themselves the schedulers choose different grids, some with steps that move nothing
(FlowMatchEuler at n = 2 steps over sigmas 1, 0.001, 0). Here every one of a flow walks
1, (n - 1) / n, ..., 1 / n, 0, passed through the size shift s (Esser et al. 2024, eq. 23):
sigma' = s sigma / (1 + (s - 1) sigma). Those of a DDPM model are in ddpm_steps.
"""

import math
from collections.abc import Sequence
from typing import Any, TypeAlias, get_args

import torch
from diffusers import (
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
    FlowMatchLCMScheduler,
    LCMScheduler,
)
from torch import Tensor

from diffgen.config.process import DDPMConfig, FlowConfig, ProcessConfig
from diffgen.config.sampling import TimeShift
from diffgen.errors import UserError
from diffgen.processes.flow import Flow
from diffgen.processes.process import Denoised
from diffgen.sampling.ddpm_steps import DDPMSolver, build_ddpm_solver, set_ddpm_steps
from diffgen.sampling.noise import Generators

FlowScheduler: TypeAlias = (
    FlowMatchEulerDiscreteScheduler
    | FlowMatchHeunDiscreteScheduler
    | DPMSolverMultistepScheduler
    | FlowMatchLCMScheduler
)
LCM: TypeAlias = FlowMatchLCMScheduler | LCMScheduler
"""x0, then fresh noise to the next level: the solvers of distilled models."""
Scheduler: TypeAlias = FlowScheduler | DDPMSolver
FLOW = FlowConfig()
TRAIN_STEPS = 1000  # diffusers writes times as sigma * 1000


def build_scheduler(name: str, shift: float = 1.0, process: ProcessConfig = FLOW) -> Scheduler:
    """The diffusers scheduler of a name, set up for models of ``process``.

    Args:
        name: ``euler``, ``heun``, ``dpmpp`` or ``lcm`` for flow, ``ddim``, ``ddpm``, ``dpmpp`` or
            ``lcm`` for ddpm.
        shift: size shift of a flow's noise levels.
        process: the models' noising process.

    Raises:
        UserError: the process has no such solver.
    """
    match process, name:
        case DDPMConfig(), _:
            return build_ddpm_solver(name, process)
        case _, "euler":
            return FlowMatchEulerDiscreteScheduler(shift=shift)
        case _, "heun":
            return FlowMatchHeunDiscreteScheduler(shift=shift)
        case _, "dpmpp":
            return DPMSolverMultistepScheduler(
                prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift
            )
        case _, "lcm":
            return FlowMatchLCMScheduler(shift=shift)
    raise UserError(f"scheduler: {name!r} is not one of {', '.join(process.schedulers)}")


def walks_flow(scheduler: Any) -> bool:
    """True for the schedulers of flow models."""
    match scheduler:
        case FlowMatchEulerDiscreteScheduler() | FlowMatchHeunDiscreteScheduler():
            return True
        case FlowMatchLCMScheduler():
            return True
        case DPMSolverMultistepScheduler():
            return bool(scheduler.config.use_flow_sigmas)
    return False


def set_steps(scheduler: Any, steps: int, device: torch.device | str, shift: float = 1.0) -> None:
    """Put ``steps`` steps into a diffusers scheduler, from the noisiest level to the image.

    ``shift``: of a flow's noise levels, besides the scheduler's own.

    Raises:
        UserError: it is none that diffgen's models can be walked with, knows fewer levels, or
            has none that can be shifted.
    """
    if walks_flow(scheduler):
        set_flow_sigmas(scheduler, steps, device, shift)
    elif shift != 1.0:
        raise UserError("time_shift: only a flow's noise levels can be shifted")
    else:
        set_ddpm_steps(scheduler, steps, device)


def flow_sigmas(steps: int, shift: float = 1.0) -> Tensor:
    """(steps,) fp32 noise levels 1 ... 1/n before the final 0, through the shift."""
    sigmas = torch.arange(steps, 0, -1, dtype=torch.float64) / steps
    return (shift * sigmas / (1 + (shift - 1) * sigmas)).float()


def size_shift(kind: TimeShift, shape: Sequence[int], trained: Sequence[int]) -> float:
    """Shift of the noise levels for images of ``shape`` by a model of ``trained`` height and width.

    ``sqrt``: sqrt(N / N0) of their areas, which brings both to the same signal-to-noise ratio at
    a coarse scale (Esser et al. 2024, sec. 5.3.2).

    Raises:
        ValueError: there is no such kind.
    """
    if kind not in get_args(TimeShift):
        raise ValueError(f"time_shift {kind!r} is not one of {get_args(TimeShift)}")
    return 1.0 if kind == "none" else math.sqrt(math.prod(shape) / math.prod(trained))


def set_flow_sigmas(
    scheduler: Any, steps: int, device: torch.device | str, shift: float = 1.0
) -> None:
    """Put ``steps`` steps of the common grid into a diffusers scheduler.

    ``shift`` comes on top of the scheduler's own: one after the other multiplies them.

    Raises:
        UserError: the scheduler is none that walks a flow here.
    """
    match scheduler:
        # These take sigmas, and shift them.
        case FlowMatchEulerDiscreteScheduler() | FlowMatchLCMScheduler():
            scheduler.set_timesteps(sigmas=flow_sigmas(steps, shift).tolist(), device=device)
        case FlowMatchHeunDiscreteScheduler():  # a step but the last is two evaluations
            scheduler.set_timesteps(steps, device=device)
            sigmas = flow_sigmas(steps, shift * scheduler.config.shift).to(device)
            doubled = torch.cat([sigmas[:1], sigmas[1:].repeat_interleave(2)])
            scheduler.timesteps = doubled * TRAIN_STEPS
            scheduler.sigmas = torch.cat([doubled, doubled.new_zeros(1)])
        case DPMSolverMultistepScheduler() if scheduler.config.use_flow_sigmas:
            scheduler.set_timesteps(steps, device=device)
            sigmas = flow_sigmas(steps, shift * scheduler.config.flow_shift)
            scheduler.timesteps = (sigmas * TRAIN_STEPS).to(device)
            scheduler.sigmas = torch.cat([sigmas, sigmas.new_zeros(1)])
        case _:
            raise UserError(
                f"scheduler: {type(scheduler).__name__} cannot walk a flow model; "
                "use euler, heun, dpmpp or lcm"
            )
    scheduler.set_begin_index(0)  # walk by position, never by searching for equal floats


def step_times(scheduler: Any) -> list[float]:
    """diffgen's time (1 = noise) of every evaluation of the model, in order."""
    first = 0 if walks_flow(scheduler) else 1  # step k of a chain is the time (k + 1) / T
    count = scheduler.config.num_train_timesteps
    return [(float(timestep) + first) / count for timestep in scheduler.timesteps]


def solver_step(
    scheduler: Any,
    denoised: Denoised,
    timestep: Tensor,
    x: Tensor,
    t: float,
    generator: Generators | None,
) -> Tensor:
    """One step of a scheduler from ``x`` (B, C, H, W) at diffgen's time ``t``.

    ``generator`` gives the noise of a solver that adds some, one for each image or one for all.
    """
    output, options = denoised.x0, {}
    if isinstance(scheduler, LCM):
        if bool(timestep == scheduler.timesteps[-1]):
            return denoised.x0  # to the bit, which diffusers' way there would round
        options["generator"] = generator
    if walks_flow(scheduler):
        output = Flow.velocity_from_x0(x, denoised.x0, x.new_full((len(x),), t))
    elif isinstance(scheduler, DDPMScheduler):
        options["generator"] = generator
        if scheduler.config.variance_type == "learned" and denoised.log_variance is not None:
            last = bool(timestep == scheduler.timesteps[-1])  # no noise is added to the image
            variance = denoised.log_variance.exp() * (0 if last else 1)
            output = torch.cat([denoised.x0, variance], dim=1)
    return scheduler.step(output, timestep, x, return_dict=False, **options)[0]

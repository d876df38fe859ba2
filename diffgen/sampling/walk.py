"""The loop from noise to a clean sample."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from diffgen.guidance import Rule
from diffgen.guidance.interval import check_reached
from diffgen.guidance.late import Constraint
from diffgen.guidance.spaces import noise_level
from diffgen.sampling.guided import Denoiser, GuidedDenoiser
from diffgen.sampling.late import LateDenoiser
from diffgen.sampling.noise import Generators
from diffgen.sampling.schedulers import solver_step, step_times


@torch.no_grad()
def walk(
    denoiser: Denoiser,
    scheduler: Any,
    rule: Rule,
    noise: Tensor,
    labels: Tensor,
    null_label: int,
    on_step: Callable[[], object] = lambda: None,
    generator: Generators | None = None,
    guide: Denoiser | None = None,
    constraints: Sequence[Constraint] = (),
    recurrence: int = 1,
) -> Tensor:
    """Walk ``noise`` (B, C, H, W) to clean samples of the same shape, fp32.

    ``scheduler`` has its steps set already (see schedulers.set_steps); ``on_step`` is called after
    every evaluation of the model. ``generator`` gives the noise a solver adds on the way: one for
    each image, or one for all; None: torch's own. ``guide``: the weaker model of
    autoguidance. ``constraints`` move each x0; where one acts, a step is walked
    ``recurrence`` times, by fresh noise between.

    Raises:
        UserError: the rule is confined to an interval that holds none of the noise levels.
    """
    run = rule.begin(denoiser.process.prediction)
    guided = GuidedDenoiser(denoiser, run, labels, null_label, guide)
    denoise = LateDenoiser(guided, constraints)
    x = noise.float()
    times = step_times(scheduler)
    check_reached(rule, [noise_level(*denoiser.levels(t)) for t in times])
    for timestep, t, s in zip(scheduler.timesteps, times, [*times[1:], 0.0], strict=True):
        first_stage = getattr(scheduler, "state_in_first_order", True)
        for _ in range(recurrence - 1 if first_stage else 0):
            x = denoise.again(x, t, s, generator)
        denoised = denoise(x, t, first_stage, s)
        x = solver_step(scheduler, denoised, timestep, x, t, generator)
        on_step()
    return x

"""The time a distilled model is told: earlier than the one its input has the noise of.

At t = 1 a DDPM's x0 = (x_t - sigma eps) / alpha divides by an alpha of almost 0. The scheduler
released with NitroFusion tells the student step floor(S k) in the place of k instead, and reads x0
with alpha and sigma of that step, while noise is added by the levels of k itself. For flows, which
have no such division, it is diffgen's own counterpart.
"""

from typing import Any

import torch
from torch import Tensor, nn

from diffgen.processes.ddpm import DDPM
from diffgen.processes.process import Denoised, Process

ROUNDING = 1e-6
"""A product this close below a whole number is that number."""


def shifted(process: Process, t: Tensor, shift: float) -> Tensor:
    """The time a model distilled with the shift S is told at time ``t``; S = 1 changes nothing.

    A flow's is S t. Of a chain of T steps, step k becomes floor(S k), which is the time
    (floor(S k) + 1) / T: with S = 0.25, steps 999, 749, 499, 249 become 249, 187, 124, 62.

    Args:
        process: of the model.
        t: times in (0, 1], of any shape.
        shift: S in (0, 1].

    Returns:
        Times of the shape and dtype of ``t``.

    Raises:
        ValueError: the shift is out of range.
    """
    if not 0 < shift <= 1:
        raise ValueError(f"timestep_shift must be above 0 and up to 1, not {shift}")
    if shift == 1:
        return t
    if not isinstance(process, DDPM):
        return shift * t
    step = (process.index(t) - 1).double()
    earlier = torch.floor(shift * step + ROUNDING)
    return ((earlier + 1) / process.config.num_train_timesteps).to(t.dtype)


def denoise_shifted(
    process: Process,
    model: nn.Module,
    x_t: Tensor,
    t: Tensor,
    y: Tensor,
    shift: float,
    s: Tensor | None = None,
    **cond: Any,
) -> Denoised:
    """x0 behind ``x_t`` as a model distilled with a shift predicts it: told the shifted time, and
    read with that time's alpha and sigma.

    Args:
        process, model, x_t, t, y, s, cond: as in ``Process.denoise``. Where the shift moves ``t``,
            a learned variance is of the process's own next step, not of that to ``s``.
        shift: S in (0, 1]; see ``shifted``.
    """
    earlier = s if shift == 1 else None
    return process.denoise(model, x_t, shifted(process, t, shift), y, earlier, **cond)

"""The loop from noise to a clean sample."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from diffgen.guidance import Rule, Run
from diffgen.processes.flow import Flow


@dataclass(frozen=True)
class GuidedDenoiser:
    """``(x_t, t) -> x0`` under one guidance run: the passes it asks for share one batch."""

    model: nn.Module
    process: Flow
    run: Run
    labels: Tensor
    """(B,) int64."""
    null_label: int

    def __call__(self, x_t: Tensor, sigma: float, advance: bool) -> Tensor:
        """``x_t`` (B, C, H, W) fp32 at noise level ``sigma`` -> guided x0, same shape."""
        alpha = 1 - sigma
        passes = self.run.passes(sigma / alpha if alpha > 0 else float("inf"))
        if "guide" in passes:
            raise ValueError("a rule asked for a guide model, but none is given")
        null = torch.full_like(self.labels, self.null_label)
        labels = torch.cat([self.labels if name == "cond" else null for name in passes])
        t = x_t.new_full((len(labels),), sigma)
        x0 = self.process.denoise(self.model, x_t.repeat(len(passes), 1, 1, 1), t, labels)
        predictions = dict(zip(passes, x0.chunk(len(passes)), strict=True))
        return self.run(
            predictions["cond"],
            predictions.get("uncond"),
            x_t=x_t,
            alpha=alpha,
            sigma=sigma,
            advance=advance,
        )


@torch.no_grad()
def walk(
    model: nn.Module,
    process: Flow,
    scheduler: Any,
    rule: Rule,
    noise: Tensor,
    labels: Tensor,
    null_label: int,
    on_step: Callable[[], object] = lambda: None,
) -> Tensor:
    """Walk ``noise`` (B, C, H, W) to clean samples of the same shape, fp32.

    ``scheduler`` has its sigmas set already (see schedulers.set_flow_sigmas); ``on_step`` is
    called after every evaluation of the model.
    """
    denoise = GuidedDenoiser(model, process, rule.begin(), labels, null_label)
    x = noise.float()
    for timestep in scheduler.timesteps:
        sigma = float(timestep) / scheduler.config.num_train_timesteps
        first_stage = getattr(scheduler, "state_in_first_order", True)
        x0 = denoise(x, sigma, first_stage)
        times = x.new_full((len(x),), sigma)
        velocity = process.velocity_from_x0(x, x0, times)
        x = scheduler.step(velocity, timestep, x, return_dict=False)[0]
        on_step()
    return x

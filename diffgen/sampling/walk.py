"""The loop from noise to a clean sample."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from diffgen.guidance import Rule, Run
from diffgen.processes import Denoised, Process
from diffgen.sampling.noise import Generators
from diffgen.sampling.schedulers import solver_step, step_times


@dataclass(frozen=True)
class GuidedDenoiser:
    """``(x_t, t) -> x0`` under one guidance run: the passes it asks for share one batch."""

    model: nn.Module
    process: Process
    run: Run
    labels: Tensor
    """(B,) int64."""
    null_label: int
    guided_channels: int | None = None
    """The rule acts on the first so many channels, the others stay the conditional pass's."""
    position_seeds: list[int] | None = None
    """(B,) seeds of what an encoding draws, the same at every step; None: it draws nothing."""

    def __call__(self, x_t: Tensor, t: float, advance: bool, s: float | None = None) -> Denoised:
        """``x_t`` (B, C, H, W) fp32 at time ``t`` -> guided x0, same shape.

        The log-variance, of the step to time ``s``, is that of the conditional pass.
        """
        level = torch.tensor(t, dtype=torch.float64)
        alpha, sigma = (float(part) for part in self.process.levels(level))
        passes = self.run.passes(sigma / alpha if alpha > 0 else float("inf"))
        if "guide" in passes:
            raise ValueError("a rule asked for a guide model, but none is given")
        null = torch.full_like(self.labels, self.null_label)
        labels = torch.cat([self.labels if name == "cond" else null for name in passes])
        times = x_t.new_full((len(labels),), t)
        earlier = None if s is None else torch.full_like(times, s)
        noisy = x_t.repeat(len(passes), 1, 1, 1)
        told = self._told(len(passes))
        x0, log_variance = self.process.denoise(self.model, noisy, times, labels, earlier, **told)
        predictions = dict(zip(passes, x0.chunk(len(passes)), strict=True))
        kept = slice(self.guided_channels)
        cond, uncond = predictions["cond"], predictions.get("uncond")
        guided = self.run(
            cond[:, kept],
            None if uncond is None else uncond[:, kept],
            x_t=x_t[:, kept],
            alpha=alpha,
            sigma=sigma,
            advance=advance,
        )
        if self.guided_channels is not None:
            guided = torch.cat([guided, cond[:, self.guided_channels :]], dim=1)
        if log_variance is not None:
            log_variance = log_variance.chunk(len(passes))[passes.index("cond")]
        return Denoised(guided, log_variance)

    def _told(self, passes: int) -> dict[str, Any]:
        """What the model gets besides time and label: fresh generators, alike in every pass."""
        if self.position_seeds is None:
            return {}
        seeds = self.position_seeds * passes
        return {"generator": [torch.Generator().manual_seed(seed) for seed in seeds]}


@torch.no_grad()
def walk(
    model: nn.Module,
    process: Process,
    scheduler: Any,
    rule: Rule,
    noise: Tensor,
    labels: Tensor,
    null_label: int,
    on_step: Callable[[], object] = lambda: None,
    generator: Generators | None = None,
    guided_channels: int | None = None,
    position_seeds: list[int] | None = None,
) -> Tensor:
    """Walk ``noise`` (B, C, H, W) to clean samples of the same shape, fp32.

    ``scheduler`` has its steps set already (see schedulers.set_steps); ``on_step`` is called after
    every evaluation of the model. ``generator`` gives the noise a solver adds on the way: one for
    each image, or one for all; None: torch's own. ``guided_channels``, ``position_seeds``: see
    GuidedDenoiser.
    """
    denoise = GuidedDenoiser(
        model, process, rule.begin(), labels, null_label, guided_channels, position_seeds
    )
    x = noise.float()
    times = step_times(scheduler)
    for timestep, t, s in zip(scheduler.timesteps, times, [*times[1:], 0.0], strict=True):
        first_stage = getattr(scheduler, "state_in_first_order", True)
        denoised = denoise(x, t, first_stage, s)
        x = solver_step(scheduler, denoised, timestep, x, t, generator)
        on_step()
    return x

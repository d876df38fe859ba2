"""A model under guidance: ``(x_t, t) -> x0``."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from diffgen.guidance import Pass, Run
from diffgen.guidance.late import Seen
from diffgen.guidance.spaces import noise_level
from diffgen.models.adapter import Adapter
from diffgen.models.dit import DiT
from diffgen.models.taps import tapped
from diffgen.processes import Denoised, Process
from diffgen.processes.shift import denoise_shifted


class Denoiser(NamedTuple):
    """A model and the process that reads its predictions."""

    model: DiT
    process: Process
    position_seeds: list[int] | None = None
    """(B,) seeds of what its encoding draws, the same at every step; None: it draws nothing."""
    adapter: Adapter | None = None
    """What works beside the model."""
    timestep_shift: float = 1.0
    """Of a distilled model, see ``processes.shift``."""

    def levels(self, t: float) -> tuple[float, float]:
        """alpha and sigma at time ``t``."""
        alpha, sigma = self.process.levels(torch.tensor(t, dtype=torch.float64))
        return float(alpha), float(sigma)

    def __call__(
        self, x_t: Tensor, t: float | Tensor, labels: Tensor, s: float | Tensor | None
    ) -> Denoised:
        """x0 of ``x_t`` (n B, C, H, W) at time ``t`` for ``labels`` (n B,); n passes.

        ``t``: one for all, or (n B,). The log-variance is that of the step to time ``s``. Every
        pass draws alike.
        """
        times = t if isinstance(t, Tensor) else x_t.new_full((len(x_t),), t)
        earlier = s if s is None or isinstance(s, Tensor) else torch.full_like(times, s)
        told: dict[str, Any] = {} if self.adapter is None else {"adapter": self.adapter}
        if self.position_seeds is not None:
            seeds = self.position_seeds * (len(x_t) // len(self.position_seeds))
            told["generator"] = [torch.Generator().manual_seed(seed) for seed in seeds]
        shift = self.timestep_shift
        return denoise_shifted(self.process, self.model, x_t, times, labels, shift, earlier, **told)

    def observed(
        self, x_t: Tensor, t: float | Tensor, labels: Tensor, s: float | None, blocks: Sequence[int]
    ) -> tuple[Denoised, Seen]:
        """One pass, as by calling it, and what losses on the features after ``blocks`` look at."""
        with tapped(self.model, blocks) as taps:
            denoised = self(x_t, t, labels, s)
        side = self.model.patch_size
        grid = (x_t.shape[-2] // side, x_t.shape[-1] // side)
        return denoised, Seen(denoised.x0, taps.features, taps.time, grid)


@dataclass
class GuidedDenoiser:
    """``(x_t, t) -> x0`` under one guidance run."""

    denoiser: Denoiser
    run: Run
    labels: Tensor
    """(B,) int64."""
    null_label: int
    guide: Denoiser | None = None
    """The weaker model of autoguidance."""
    together: bool = True
    """The model's passes share one batch; switched off when that does not fit the memory."""

    def __call__(
        self,
        x_t: Tensor,
        t: float,
        advance: bool,
        s: float | None = None,
        cond: Denoised | None = None,
    ) -> Denoised:
        """``x_t`` (B, C, H, W) fp32 at time ``t`` -> guided x0, same shape.

        The log-variance, of the step to time ``s``, is that of the conditional pass, which may be
        given as ``cond``.
        """
        alpha, sigma = self.denoiser.levels(t)
        passes = self.run.passes(noise_level(alpha, sigma))
        found = self._predict(x_t, t, s, passes, cond)
        baseline = found["uncond"].x0 if "uncond" in passes else None
        if "guide" in passes:
            if self.guide is None:
                raise ValueError("a rule asked for a guide model, but none is given")
            baseline = self.guide(x_t, t, self.labels, s).x0
        x0 = self.run(
            found["cond"].x0, baseline, x_t=x_t, alpha=alpha, sigma=sigma, advance=advance
        )
        return Denoised(x0, found["cond"].log_variance)

    def _predict(
        self,
        x_t: Tensor,
        t: float,
        s: float | None,
        passes: tuple[Pass, ...],
        cond: Denoised | None,
    ) -> dict[str, Denoised]:
        """The model's own passes: as one batch, or one by one if that is too large."""
        labels = {"cond": self.labels, "uncond": torch.full_like(self.labels, self.null_label)}
        own = [name for name in passes if name != "guide"]
        if cond is not None:
            rest = [name for name in own if name != "cond"]
            return {"cond": cond} | {name: self.denoiser(x_t, t, labels[name], s) for name in rest}
        if self.together and len(own) > 1:
            try:
                return self._as_one(x_t, t, s, {name: labels[name] for name in own})
            except torch.OutOfMemoryError:
                self.together = False
        return {name: self.denoiser(x_t, t, labels[name], s) for name in own}

    def _as_one(
        self, x_t: Tensor, t: float, s: float | None, labels: dict[str, Tensor]
    ) -> dict[str, Denoised]:
        count = len(labels)
        x0, variance = self.denoiser(
            x_t.repeat(count, 1, 1, 1), t, torch.cat(list(labels.values())), s
        )
        variances = [None] * count if variance is None else variance.chunk(count)
        parts = map(Denoised, x0.chunk(count), variances)
        return dict(zip(labels, parts, strict=True))

"""A joint model under guidance: noisy images and conditions, each at its own time -> their x0."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from diffgen.guidance import Run
from diffgen.guidance.spaces import noise_level
from diffgen.joint.adapter import JointAdapter
from diffgen.joint.stacked import Stacked
from diffgen.processes import Denoised
from diffgen.sampling.guided import Denoiser

SEPARATE = "separate"
"""The pass with the class but without joint attention."""


@dataclass
class JointDenoiser:
    """Branch 0 is the images, branch i those of the i-th adapter.

    The guided x0 of a branch is its rule's, plus ``condition_scale`` times what the joint
    attention changes: x0_tj - x0_ts, of joint and separate passes with the class (UniCon's
    released sampler; for classifier-free guidance that is
    x0_uj + s (x0_tj - x0_uj) + s_c (x0_tj - x0_ts)).
    """

    denoiser: Denoiser
    """The frozen model."""
    adapters: Sequence[JointAdapter]
    weights: Sequence[float]
    """One of each adapter: how much its joint attention counts."""
    runs: Sequence[Run]
    """One guidance run of each branch."""
    labels: Tensor
    """(B,) int64."""
    null_label: int
    condition_scale: float = 0.0
    together: bool = True
    """All passes share one batch; switched off when that does not fit the memory."""

    def __call__(
        self,
        states: Sequence[Tensor],
        t: Sequence[float],
        s: Sequence[float],
        moving: Sequence[bool],
    ) -> list[Denoised | None]:
        """``states``, each (B, C, H, W) fp32 at its time ``t`` -> x0 of those ``moving``.

        The log-variance, of the step to time ``s``, is that of the conditional pass.
        """
        levels = [self.denoiser.levels(time) for time in t]
        asked = [
            run.passes(noise_level(*level)) if moves else ()
            for run, level, moves in zip(self.runs, levels, moving, strict=True)
        ]
        if any("guide" in passes for passes in asked):
            raise ValueError("guidance: joint generation takes no guide")
        names = ["cond"]
        names += ["uncond"] if any("uncond" in passes for passes in asked) else []
        names += [SEPARATE] if self.condition_scale else []
        found = self._predict(names, states, t, s)
        guided: list[Denoised | None] = []
        for i, passes in enumerate(asked):
            if not passes:
                guided.append(None)
                continue
            cond, variance = found["cond"][i]
            uncond = found["uncond"][i].x0 if "uncond" in passes else None
            alpha, sigma = levels[i]
            x0 = self.runs[i](cond, uncond, x_t=states[i], alpha=alpha, sigma=sigma)
            if self.condition_scale:
                x0 = x0 + self.condition_scale * (cond - found[SEPARATE][i].x0)
            guided.append(Denoised(x0, variance))
        return guided

    def _predict(
        self, names: list[str], states: Sequence[Tensor], t: Sequence[float], s: Sequence[float]
    ) -> dict[str, list[Denoised]]:
        """Passes by name and branch: as one batch, or one by one if that is too large."""
        if self.together and len(names) > 1:
            try:
                return self._as_one(names, states, t, s)
            except torch.OutOfMemoryError:
                self.together = False
        found = dict[str, list[Denoised]]()
        for name in names:
            found |= self._as_one([name], states, t, s)
        return found

    def _as_one(
        self, names: list[str], states: Sequence[Tensor], t: Sequence[float], s: Sequence[float]
    ) -> dict[str, list[Denoised]]:
        """Passes in one batch, of which the branches of an image have the same place."""
        count, rows = len(names), len(self.labels)
        null = torch.full_like(self.labels, self.null_label)
        labels = torch.cat([null if name == "uncond" else self.labels for name in names])
        on = states[0].new_tensor([float(name != SEPARATE) for name in names])
        on = on.repeat_interleave(rows)
        stacked = Stacked(self.adapters, [weight * on for weight in self.weights])
        x_t = torch.cat([state.repeat(count, 1, 1, 1) for state in states])
        times, earlier = (
            x_t.new_tensor(values).repeat_interleave(count * rows) for values in (t, s)
        )
        x0, variance = self.denoiser._replace(adapter=stacked)(
            x_t, times, labels.repeat(len(states)), earlier
        )
        parts = len(states) * count
        variances = [None] * parts if variance is None else variance.chunk(parts)
        every = list(map(Denoised, x0.chunk(parts), variances))
        return {name: every[i::count] for i, name in enumerate(names)}

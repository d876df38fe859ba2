"""The student's calls: from noise to x0, and through noise to the next x0."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from diffgen.processes import Process
from diffgen.processes.shift import denoise_shifted
from diffgen.sampling.noise import position_seeds
from diffgen.seeding import stream_generator


@dataclass(frozen=True)
class Student:
    """How a student is called; the weights come with each call."""

    process: Process
    shift: float
    """See ``processes.shift``."""
    draws_positions: bool
    """Its encoding draws positions, for each image anew."""
    seed: int

    def __call__(
        self, model: nn.Module, x_t: Tensor, t: Tensor, y: Tensor, seeds: list[int] | None
    ) -> Tensor:
        """x0 of ``x_t`` (B, C, h, w) at times ``t`` (B,) for classes ``y`` (B,)."""
        told: dict[str, Any] = {}
        if seeds is not None:
            told["generator"] = [torch.Generator().manual_seed(seed) for seed in seeds]
        return denoise_shifted(self.process, model, x_t, t, y, self.shift, **told).x0

    def seeds(self, numbers: list[int]) -> list[int] | None:
        """Those of the positions of these samples."""
        return position_seeds(numbers, self.seed) if self.draws_positions else None

    def times(self, steps: int) -> list[float]:
        """Times of the calls of a course of ``steps``: 1, (n - 1) / n, ..., 1 / n."""
        return [1 - k / steps for k in range(steps)]

    def arrive(
        self, model: nn.Module, noise: Tensor, y: Tensor, numbers: list[int], steps: int, call: int
    ) -> tuple[Tensor, Tensor]:
        """x_t and t (B,) at call ``call`` (from 0) of a course of ``steps`` from ``noise``.

        Each call before it gives an x0, to which fresh noise of the samples is added up to the
        next time. No gradient comes back through them: only the last call learns.
        """
        x_t, seeds, times = noise, self.seeds(numbers), self.times(steps)
        t = [noise.new_full((len(noise),), time) for time in times]
        with torch.no_grad():
            for k in range(call):
                x0 = self(model, x_t, t[k], y, seeds)
                fresh = [stream_generator(self.seed, f"step{k}", n) for n in numbers]
                eps = torch.stack([torch.randn(x0.shape[1:], generator=one) for one in fresh])
                x_t = self.process.add_noise(x0, eps.to(x0), t[k + 1])
        return x_t, t[call]

"""Rectified flow (Liu et al. 2023; Lipman et al. 2023), written with t = 1 as pure noise.

``x_t = (1 - t) x0 + t eps``, so alpha(t) = 1 - t and sigma(t) = t; the velocity is
``v = d x_t / d t = eps - x0``.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from diffgen.config.model import Prediction, TimeConvention
from diffgen.config.process import LogitNormalTimes, UniformTimes
from diffgen.processes.process import Denoised, Model, per_sample
from diffgen.processes.times import draw_time

# Bounds the weight 1 / t^2 of an x0 model's error at 25: near the image rare times would outweigh
# all others and throw a short training off (JiT, Li and He 2025, takes 0.05).
SMALLEST_TIME = 0.2


@dataclass(frozen=True)
class Flow:
    """The process between clean images and noise, for models of one convention."""

    convention: TimeConvention
    """How the model's time input is written."""
    prediction: Prediction = "velocity"
    """What the model's output means."""
    times: LogitNormalTimes | UniformTimes = field(default_factory=LogitNormalTimes)
    """Density of the training times."""

    def draw_time(self, generator: torch.Generator) -> Tensor:
        """One training time in (0, 1)."""
        return draw_time(self.times, generator)

    @staticmethod
    def levels(t: Tensor) -> tuple[Tensor, Tensor]:
        """1 - t and t."""
        return 1 - t, t

    @staticmethod
    def add_noise(x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """(1 - t) x0 + t eps; ``x0``, ``eps`` (B, ...), ``t`` (B,) in [0, 1]."""
        t = per_sample(t, x0)
        return (1 - t) * x0 + t * eps

    @staticmethod
    def velocity(x0: Tensor, eps: Tensor) -> Tensor:
        """eps - x0."""
        return eps - x0

    @staticmethod
    def x0_from_velocity(x_t: Tensor, v: Tensor, t: Tensor) -> Tensor:
        """x_t - t v."""
        return x_t - per_sample(t, x_t) * v

    @staticmethod
    def velocity_from_x0(x_t: Tensor, x0: Tensor, t: Tensor) -> Tensor:
        """(x_t - x0) / t, for t > 0."""
        return (x_t - x0) / per_sample(t, x_t)

    def own_time(self, t: Tensor) -> Tensor:
        """diffgen's times in [0, 1], 1 = pure noise -> the model's convention."""
        t = t if self.convention.direction == "noise" else 1 - t
        return t * self.convention.scale

    def predict_velocity(
        self, model: Model, x_t: Tensor, t: Tensor, y: Tensor, **cond: Any
    ) -> Tensor:
        """A velocity model's eps - x0; models of direction "data" predict its negative.

        Released SiTs have as many output channels again, which nothing has trained.
        """
        out = model(x_t, self.own_time(t), y, **cond)[:, : x_t.shape[1]]
        return out if self.convention.direction == "noise" else -out

    def loss(
        self, model: Model, x0: Tensor, eps: Tensor, t: Tensor, y: Tensor, **cond: Any
    ) -> Tensor:
        """Squared error of the velocity, averaged over each sample: (B,) fp32.

        That of an x0 model's is (x0_predicted - x0)^2 / t^2, with t no smaller than 0.2.
        """
        x_t = self.add_noise(x0, eps, t)
        if self.prediction == "x0":
            out = model(x_t, self.own_time(t), y, **cond)
            error = (out.float() - x0) / per_sample(t.clamp(min=SMALLEST_TIME), x0)
        else:
            error = self.predict_velocity(model, x_t, t, y, **cond).float() - self.velocity(x0, eps)
        return error.square().flatten(1).mean(dim=1)

    def denoise(
        self,
        model: nn.Module,
        x_t: Tensor,
        t: Tensor,
        y: Tensor,
        s: Tensor | None = None,
        **cond: Any,
    ) -> Denoised:
        """The denoised prediction x0, fp32 like ``x_t`` (B, C, H, W), at times ``t`` (B,)."""
        noisy = x_t.to(next(model.parameters()).dtype)
        if self.prediction == "x0":
            return Denoised(model(noisy, self.own_time(t), y, **cond).float())
        velocity = self.predict_velocity(model, noisy, t, y, **cond).float()
        return Denoised(self.x0_from_velocity(x_t, velocity, t))

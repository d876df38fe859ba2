"""Discrete diffusion (Ho et al. 2020) with optionally learned variances (Nichol and Dhariwal 2021).

The chain has T steps 0 to T - 1, as models count them. Step k is diffgen's time (k + 1) / T, so the
clean image is t = 0 and the noisiest step t = 1.
"""

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from diffgen.config.model import Prediction, TimeConvention
from diffgen.config.process import DDPMConfig, MinSNRWeighting
from diffgen.processes import gaussian
from diffgen.processes.process import Denoised, Model, per_sample
from diffgen.processes.schedule import alpha_bar, cosine_betas, linear_betas
from diffgen.transfer import to_device


@dataclass(frozen=True)
class DDPM:
    """The process between clean images and noise, for models of one convention."""

    convention: TimeConvention
    """How the model's time input is written."""
    prediction: Prediction = "v"
    """What the model's output means: eps, v or x0."""
    config: DDPMConfig = field(default_factory=DDPMConfig)
    """Length and betas of the chain, learned variance, weighting."""

    @cached_property
    def alpha_bar(self) -> Tensor:
        """(T + 1,) fp64; entry k + 1 belongs to step k, entry 0 to the clean image."""
        betas = linear_betas if self.config.betas == "linear" else cosine_betas
        return alpha_bar(betas(self.config.num_train_timesteps))

    def index(self, t: Tensor) -> Tensor:
        """Times in [0, 1] -> int64 entries of ``alpha_bar``; between two, the nearest."""
        return (t * self.config.num_train_timesteps).round().long()

    def own_time(self, t: Tensor) -> Tensor:
        """Times in (0, 1] -> the model's convention: of scale 1000, steps 0 to 999 (of 1000)."""
        step = (self.index(t) - 1).float()
        time = step * (self.convention.scale / self.config.num_train_timesteps)
        return time if self.convention.direction == "noise" else self.convention.scale - time

    def draw_time(self, generator: torch.Generator) -> Tensor:
        """Every step is as likely."""
        steps = self.config.num_train_timesteps
        return (torch.randint(steps, (), generator=generator) + 1) / steps

    def levels(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """sqrt(abar) and sqrt(1 - abar), in the shape and dtype of ``t``."""
        abar = self._abar(t)
        return abar.sqrt().to(t.dtype), (1 - abar).sqrt().to(t.dtype)

    def add_noise(self, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """alpha x0 + sigma eps (Ho et al. 2020, eq. 4)."""
        alpha, sigma = self._levels_for(x0, t)
        return alpha * x0 + sigma * eps

    def loss(
        self, model: Model, x0: Tensor, eps: Tensor, t: Tensor, y: Tensor, **cond: Any
    ) -> Tensor:
        """The weighted squared error, plus T / 1000 times the variational term if there is one.

        L_hybrid of Nichol and Dhariwal 2021, eq. 16: L_vlb is the sum over T steps, times 0.001.
        """
        error, bound = self.loss_terms(model, x0, eps, t, y, **cond)
        if isinstance(self.config.weighting, MinSNRWeighting):
            alpha, sigma = self.levels(t)
            error = error * gaussian.min_snr_weight(
                self.prediction, alpha, sigma, self.config.weighting.gamma
            )
        return error if bound is None else error + self.config.num_train_timesteps / 1000 * bound

    def loss_terms(
        self, model: Model, x0: Tensor, eps: Tensor, t: Tensor, y: Tensor, **cond: Any
    ) -> tuple[Tensor, Tensor | None]:
        """Squared error of what the model predicts, and its variational term, each (B,) fp32.

        The second trains the variance alone: the mean in it is detached.
        """
        x_t = self.add_noise(x0, eps, t)
        output, raw = self._split(model(x_t, self.own_time(t), y, **cond).float())
        alpha, sigma = self._levels_for(x0, t)
        wanted = gaussian.target(self.prediction, x0, eps, alpha, sigma)
        error = (output - wanted).square().flatten(1).mean(dim=1)
        if raw is None:
            return error, None
        believed = gaussian.x0_from(self.prediction, output.detach(), x_t, alpha, sigma)
        log_variance = self._log_variance(raw, t, self._step_before(t))
        return error, self.variational_term(x0, x_t, t, believed, log_variance)

    def variational_term(
        self, x0: Tensor, x_t: Tensor, t: Tensor, believed: Tensor, log_variance: Tensor
    ) -> Tensor:
        """The step's part of the bound on -log p(x0): (B,), averaged over elements [bits].

        KL(q(x_s | x_t, x0) || p(x_s | x_t)), with p's mean from the ``believed`` x0; at the first
        step -log p(x0 | x_t) of 8-bit images (Ho et al. 2020, eq. 5).
        """
        s = self._step_before(t)
        abar_t, abar_s = (per_sample(self._abar(z), x0) for z in (t, s))
        mean = gaussian.posterior_mean(x_t, x0, abar_t, abar_s).to(x0.dtype)
        guess = gaussian.posterior_mean(x_t, believed, abar_t, abar_s).to(x0.dtype)
        smallest = per_sample(self._variance_range(t, s)[0], x0).log().to(x0.dtype)
        kl = gaussian.normal_kl(mean, smallest, guess, log_variance)
        nll = gaussian.discretised_nll(x0, guess, log_variance)
        nats = torch.where(per_sample(self.index(t) == 1, x0), nll, kl)
        return nats.flatten(1).mean(dim=1) / math.log(2)

    def denoise(
        self,
        model: nn.Module,
        x_t: Tensor,
        t: Tensor,
        y: Tensor,
        s: Tensor | None = None,
        **cond: Any,
    ) -> Denoised:
        """x0, and with a learned variance the log-variance of the step from ``t`` to ``s``."""
        noisy = x_t.to(next(model.parameters()).dtype)
        output, raw = self._split(model(noisy, self.own_time(t), y, **cond).float())
        x0 = gaussian.x0_from(self.prediction, output, x_t, *self._levels_for(x_t, t))
        if raw is None:
            return Denoised(x0)
        return Denoised(x0, self._log_variance(raw, t, self._step_before(t) if s is None else s))

    def _split(self, output: Tensor) -> tuple[Tensor, Tensor | None]:
        """The model's prediction and, behind it, its variance in [-1, 1]."""
        if not self.config.learned_variance:
            return output, None
        prediction, raw = output.chunk(2, dim=1)
        return prediction, raw

    def _step_before(self, t: Tensor) -> Tensor:
        return t - 1 / self.config.num_train_timesteps

    def _abar(self, t: Tensor) -> Tensor:
        return to_device(self.alpha_bar, t.device)[self.index(t)]

    def _levels_for(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """alpha and sigma, to multiply ``x`` with and of its dtype."""
        abar = per_sample(self._abar(t), x)
        return abar.sqrt().to(x.dtype), (1 - abar).sqrt().to(x.dtype)

    def _variance_range(self, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """beta~ and beta of the step from ``t`` to ``s``, each (B,) fp64.

        At the clean image beta~ is 0; the next step's stands in, as in the released code.
        """
        abar_t, abar_s = self._abar(t), self._abar(s)
        first = to_device(gaussian.posterior_variance(*self.alpha_bar[[2, 1]]), t.device)
        smallest = torch.where(
            self.index(s) == 0, first, gaussian.posterior_variance(abar_t, abar_s)
        )
        return smallest, gaussian.step_beta(abar_t, abar_s)

    def _log_variance(self, raw: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """``raw`` -1 is log beta~, 1 is log beta (Nichol and Dhariwal 2021, eq. 15)."""
        smallest, largest = (
            per_sample(variance.log(), raw).to(raw.dtype) for variance in self._variance_range(t, s)
        )
        share = (raw + 1) / 2
        return share * largest + (1 - share) * smallest

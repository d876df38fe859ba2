"""What every noising process offers; whoever trains or samples knows no more of it."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeAlias

import torch
from torch import Tensor, nn

from diffgen.config.model import Prediction

Model: TypeAlias = Callable[..., Tensor]
"""(noisy, times in the model's convention, labels, what else it is told) -> prediction."""


class Denoised(NamedTuple):
    """A model's belief about the clean image."""

    x0: Tensor
    """(B, C, H, W) fp32."""
    log_variance: Tensor | None = None
    """(B, C, H, W) fp32, of the step the solver takes next; None: the model predicts none."""


class Process(Protocol):
    """A path from clean images (t = 0) to noise (t = 1), and the way back by a model.

    ``x_t = alpha(t) x0 + sigma(t) eps``. Times are diffgen's; the process converts them to the
    model's own convention.
    """

    @property
    def prediction(self) -> Prediction:
        """What the model's output means."""

    def draw_time(self, generator: torch.Generator) -> Tensor:
        """One training time in (0, 1], as a 0-d fp32 tensor."""

    def own_time(self, t: Tensor) -> Tensor:
        """Times as the model has them, of diffgen's ``t``."""

    def levels(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """alpha and sigma at times ``t``, in the shape of ``t``."""

    def add_noise(self, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """x_t; ``x0``, ``eps`` (B, ...), ``t`` (B,) in [0, 1]."""

    def loss(
        self, model: Model, x0: Tensor, eps: Tensor, t: Tensor, y: Tensor, **cond: Any
    ) -> Tensor:
        """The training loss of each sample: (B,) fp32. ``cond``: what else the model is told."""

    def denoise(
        self,
        model: nn.Module,
        x_t: Tensor,
        t: Tensor,
        y: Tensor,
        s: Tensor | None = None,
        **cond: Any,
    ) -> Denoised:
        """The clean image behind ``x_t`` (B, C, H, W) fp32 at times ``t`` (B,).

        ``s`` (B,): the earlier times a solver steps to, for the variance of that step; None: the
        process's own next ones.
        """


def per_sample(t: Tensor, x: Tensor) -> Tensor:
    """(B,) -> (B, 1, 1, ...), to multiply ``x`` (B, ...) with."""
    return t.reshape(-1, *[1] * (x.ndim - 1))

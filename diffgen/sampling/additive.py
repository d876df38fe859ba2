"""A flow model as a denoiser of images with noise added: y = x + sigma n.

Its own x_t = (1 - t) x0 + t eps is (1 - t) y at t = sigma / (1 + sigma). So D(y) is the model's
x0 at ((1 - t) y, t), and its Jacobian in y is 1 - t times the one in x_t.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from diffgen.sampling.guided import Denoiser


def flow_time(sigma: float) -> float:
    """The time t of a flow whose noise is ``sigma`` times its image: t / (1 - t) = sigma."""
    return sigma / (1 + sigma)


@dataclass(frozen=True)
class AdditiveDenoiser:
    """y (B, C, H, W) -> x0, same shape, fp32; differentiable."""

    denoiser: Denoiser
    """Of a flow."""
    sigma: float
    """Standard deviation of the noise [the model's pixels, in about [-1, 1]]."""
    label: int
    """Of every image; the null class for none."""

    def __call__(self, y: Tensor) -> Tensor:
        t = flow_time(self.sigma)
        labels = torch.full((len(y),), self.label, device=y.device)
        return self.denoiser((1 - t) * y, t, labels, None).x0

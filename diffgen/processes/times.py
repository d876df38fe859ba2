"""Densities the training times are drawn from."""

import torch
from torch import Tensor

from diffgen.config.process import LogitNormalTimes, UniformTimes


def draw_time(density: LogitNormalTimes | UniformTimes, generator: torch.Generator) -> Tensor:
    """One time in (0, 1), 1 = pure noise, as a 0-d fp32 tensor."""
    match density:
        case LogitNormalTimes():
            u = torch.randn((), generator=generator)
            return torch.sigmoid(density.mean + density.std * u)
        case UniformTimes():
            return torch.rand((), generator=generator)

"""Mild disturbances of the reader's training pictures, so that it reads soft or tinted ones too.

All draws come from the generator given; all pictures are (B, C, H, W) float32 in [-1, 1].
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

MAX_NOISE = 0.10
MAX_TINT = 0.10
MAX_BLUR = 1.0
MAX_TURN = 12.0
MAX_SHIFT = 0.08
MAX_SCALE = 0.10


def jog(digits: Tensor, generator: torch.Generator) -> Tensor:
    """Turn (up to 12 degrees), shift (8 % of the picture) and scale (10 %) pictures on black."""
    count, _, height, width = digits.shape
    turn, scale = (_spread(count, generator) for _ in range(2))
    angle = turn * math.radians(MAX_TURN)
    scale = 1 + scale * MAX_SCALE
    cosine, sine = angle.cos() * scale, angle.sin() * scale
    # affine_grid works in units of half a side, so turning a non-square needs its proportions.
    aspect = height / width
    shift_x, shift_y = (MAX_SHIFT * 2 * _spread(count, generator) for _ in range(2))
    short = min(height, width)
    rows = [
        torch.stack([cosine, -sine * aspect, shift_x * short / width], 1),
        torch.stack([sine / aspect, cosine, shift_y * short / height], 1),
    ]
    grid = F.affine_grid(torch.stack(rows, 1), list(digits.shape), align_corners=False)
    return F.grid_sample(digits + 1, grid, align_corners=False) - 1  # zeros outside: black


def jitter(images: Tensor, generator: torch.Generator) -> Tensor:
    """Blur, tint and add noise: each by a random amount, on a random half of the pictures."""
    count = len(images)
    blur, tint, noise = (
        (torch.rand(count, generator=generator) < 0.5).float().view(-1, 1, 1, 1) for _ in range(3)
    )
    blur = blur * MAX_BLUR * torch.rand(count, 1, 1, 1, generator=generator)
    images = images + blur * (_soften(images) - images)
    gain = 1 + tint * MAX_TINT * (2 * torch.rand(count, 3, 1, 1, generator=generator) - 1)
    shift = tint * MAX_TINT * (2 * torch.rand(count, 3, 1, 1, generator=generator) - 1)
    noise = noise * MAX_NOISE * torch.rand(count, 1, 1, 1, generator=generator)
    images = images * gain + shift + noise * torch.randn(images.shape, generator=generator)
    return images.clamp(-1, 1)


def _spread(count: int, generator: torch.Generator) -> Tensor:
    """Uniform numbers in [-1, 1], (count,)."""
    return 2 * torch.rand(count, generator=generator) - 1


def _soften(images: Tensor) -> Tensor:
    """The binomial filter (1, 2, 1) / 4 along both axes, borders replicated."""
    x = F.pad(images, (1, 1, 1, 1), mode="replicate")
    x = (x[:, :, :-2] + 2 * x[:, :, 1:-1] + x[:, :, 2:]) / 4
    return (x[:, :, :, :-2] + 2 * x[:, :, :, 1:-1] + x[:, :, :, 2:]) / 4

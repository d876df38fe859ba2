"""How much noise each step of a DDPM chain adds, and which steps a shorter chain keeps."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor


def linear_betas(steps: int) -> Tensor:
    """(T,) fp64 from 1e-4 to 0.02 at T = 1000 (Ho et al. 2020, sec. 4), times 1000 / T."""
    scale = 1000 / steps
    return torch.linspace(scale * 1e-4, scale * 0.02, steps, dtype=torch.float64)


def cosine_betas(steps: int, most: float = 0.999) -> Tensor:
    """(T,) fp64, so that abar(t) = cos^2((t/T + 0.008) / 1.008 pi/2) up to a constant.

    Nichol and Dhariwal 2021, eq. 17; no beta is above ``most``.
    """
    t = torch.arange(steps + 1, dtype=torch.float64) / steps
    f = torch.cos((t + 0.008) / 1.008 * math.pi / 2).square()
    return (1 - f[1:] / f[:-1]).clamp(max=most)


def alpha_bar(betas: Tensor) -> Tensor:
    """(T,) betas -> (T + 1,) products of 1 - beta; the first is 1, that of the clean image."""
    return torch.cat([betas.new_ones(1), (1 - betas).cumprod(0)])


def space_timesteps(num_timesteps: int, section_counts: Sequence[int]) -> list[int]:
    """Keep ``section_counts[i]`` steps, evenly, of the i-th of equal sections (Nichol 2021).

    With one section: from the first to the last step in equal strides, rounded.

    Returns:
        Kept steps out of 0 to ``num_timesteps`` - 1, ascending.

    Raises:
        ValueError: a section has fewer steps than it should keep.
    """
    size, longer = divmod(num_timesteps, len(section_counts))
    kept, start = [], 0
    for i, count in enumerate(section_counts):
        length = size + (i < longer)
        if count > length:
            raise ValueError(f"a section of {length} steps cannot keep {count}")
        stride = (length - 1) / (count - 1) if count > 1 else 1
        kept += [start + round(stride * k) for k in range(count)]
        start += length
    return kept


def sampling_steps(
    num_timesteps: int, count: int, spacing: Literal["trailing", "linspace", "leading"]
) -> list[int]:
    """``count`` different steps out of 0 to ``num_timesteps`` - 1, noisiest first.

    trailing: the noisiest step of each of ``count`` equal shares, so that the first is the noisiest
    of all and every one is useful, however few (Lin et al. 2024, table 2). linspace: from the
    noisiest to step 0, where nothing is left to do (ADM). leading: strides from step 0 that stop
    short of full noise (DDIM).
    """
    match spacing:
        case "trailing":
            return [round(num_timesteps * k / count) - 1 for k in range(count, 0, -1)]
        case "linspace":
            return space_timesteps(num_timesteps, [count])[::-1]
        case "leading":
            return [num_timesteps // count * k for k in reversed(range(count))]
    raise ValueError(f"timestep_spacing {spacing!r} is not one of trailing, linspace, leading")

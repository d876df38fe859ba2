"""Rotary frequencies on grids larger than the trained one.

Everything is per axis: ``side`` (...) tokens of an image along it, ``trained`` tokens in training,
``scale`` s = max(side / trained, 1), possibly that of the longer axis. Functions return
(..., D / 2) fp64 frequencies [radians per token], D = channels of the axis, and give the plain ones
theta^(-2j / D) at s = 1. Angles are position times frequency.
"""

import math

import torch
from torch import Tensor

from diffgen.config.positions import Scaling
from diffgen.transfer import values_like

WATERSHED = 0.3  # Lumina-Next switches at t = 0.3, counted from noise


def plain(theta: float, channels: int, device: torch.device | None = None) -> Tensor:
    """theta^(-2j / D), j = 0 ... D/2 - 1 (Su et al. 2021)."""
    steps = torch.arange(0, channels, 2, dtype=torch.float64, device=device)
    return theta ** (-steps / channels)


def pi(scale: Tensor, theta: float, channels: int) -> Tensor:
    """Positions pressed into the trained range: f_j / s (Chen et al. 2023)."""
    return plain(theta, channels, scale.device) / scale[..., None]


def ntk(scale: Tensor, theta: float, channels: int) -> Tensor:
    """Base theta s^(D / (D - 2)): the highest frequency stays, the lowest becomes f / s."""
    base = theta * scale ** (channels / (channels - 2))
    steps = torch.arange(0, channels, 2, dtype=torch.float64, device=scale.device)
    return base[..., None] ** (-steps / channels)


def turning_index(turns: float, theta: float, channels: int, trained: int) -> float:
    """Index of the frequency that makes ``turns`` full turns over the trained side."""
    return channels * math.log(trained / (2 * math.pi * turns)) / (2 * math.log(theta))


def kept_share(
    most: float, least: float, theta: float, channels: int, trained: int, like: Tensor
) -> Tensor:
    """(D / 2,): 1 for frequencies of more than ``most`` turns, 0 below ``least``, linear between.

    The ramp's ends are rounded outwards and kept within 0 ... D - 1 (Peng et al. 2023).
    """
    low = max(math.floor(turning_index(most, theta, channels, trained)), 0)
    high: float = min(math.ceil(turning_index(least, theta, channels, trained)), channels - 1)
    if high == low:
        high += 0.001
    index = torch.arange(channels // 2, dtype=torch.float64, device=like.device)
    return 1 - ((index - low) / (high - low)).clamp(0, 1)


def yarn(scale: Tensor, theta: float, channels: int, trained: int) -> Tensor:
    """PI for slow frequencies, plain ones for fast (Peng et al. 2023), turns from 1 to 32.

    Those bounds are a language model's, kept by FiT: on a side of 16 tokens almost everything is
    PI. The logits are scaled as well, see ``yarn_temperature``.
    """
    keep = kept_share(32, 1, theta, channels, trained, scale)
    return pi(scale, theta, channels) * (1 - keep) + plain(theta, channels, scale.device) * keep


def yarn_temperature(scale: Tensor) -> Tensor:
    """(0.1 ln s + 1)^2 on the logits: YaRN multiplies queries and keys by the root."""
    return (0.1 * scale.log() + 1).square()


def ntk_by_parts(scale: Tensor, theta: float, channels: int, trained: int) -> Tensor:
    """PI, then NTK, then plain frequencies as they turn faster, with the released FiT's bounds."""
    slow = kept_share(1.25, 0.75, theta, channels, trained, scale)
    fast = kept_share(16, 2, theta, channels, trained, scale)
    mixed = pi(scale, theta, channels) * (1 - slow) + ntk(scale, theta, channels) * slow
    return mixed * (1 - fast) + plain(theta, channels, scale.device) * fast


def riflex(side: Tensor, trained: int, period: float, theta: float, channels: int) -> Tensor:
    """The frequency whose period is nearest to ``period`` slowed to 0.9 turns over ``side``.

    RIFLEx (Zhao et al. 2025) was made for the time axis of videos. It is applied here to each axis
    that is longer than trained, and never quickens a frequency: both are diffgen's choice.
    """
    frequencies = plain(theta, channels, side.device)
    k = int((2 * math.pi / frequencies - period).abs().argmin())
    slowed = torch.minimum(0.9 * 2 * math.pi / side.double(), frequencies[k])
    slowed = torch.where(side > trained, slowed, frequencies[k])
    frequencies = frequencies.expand(*side.shape, -1).clone()
    frequencies[..., k] = slowed
    return frequencies


def time_aware(scale: Tensor, t: Tensor, theta: float, channels: int) -> Tensor:
    """PI near noise, later base theta s (Lumina-Next, Zhuo et al. 2024; its released switch).

    ``t`` (...): noise times, 1 = pure noise. The switch is at 0.3 of the way from noise.
    """
    steps = torch.arange(0, channels, 2, dtype=torch.float64, device=scale.device)
    later = (theta * scale)[..., None] ** (-steps / channels)
    early = (1 - t < WATERSHED)[..., None]
    return torch.where(early, pi(scale, theta, channels), later)


def axis_scales(kind: Scaling, sizes: Tensor, grid: tuple[int, int], decoupled: bool) -> Tensor:
    """(..., 2) fp64 s of both axes of images of ``sizes`` (..., 2) tokens, 1 or more.

    Coupled axes share the larger one; for ``time_aware``, as in Lumina-Next, the root of the ratio
    of areas.
    """
    sizes = sizes.double()
    ratio = sizes / values_like(grid, sizes)
    if not decoupled and kind == "time_aware":
        ratio = ratio.prod(-1, keepdim=True).sqrt()
    elif not decoupled:
        ratio = ratio.amax(-1, keepdim=True)
    return ratio.clamp(min=1).expand(sizes.shape)

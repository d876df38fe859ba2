"""Discriminator heads as stacked parameters: any subset of a pool is an index.

A head reads one feature map of the frozen teacher: a linear reduction of the channels, then
convolutions of 4x4 and stride 2, each with GroupNorm and SiLU (NitroFusion, Chen et al. 2024),
then a linear map to one logit a place. The paper states neither the reduction nor how a head
ends; a logit a place, averaged by the loss, keeps the same head usable for every size of map.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from diffgen.models.blocks import at_least_fp32

Heads: TypeAlias = dict[str, Tensor]
"""Parameters by name, each (n, ...): those of n heads."""

KERNEL, STRIDE, PADDING = 4, 2, 1
EPS = 1e-5


@dataclass(frozen=True)
class HeadShape:
    """What all heads of a pool have in common."""

    width: int
    """Channels of the features."""
    channels: int
    """Channels they are reduced to."""
    convolutions: int
    """Convolutions that halve the map. What is left should have several places: a norm over few
    numbers leaves little of them."""

    @property
    def groups(self) -> int:
        """Of GroupNorm, of 4 channels or more where the number of channels allows."""
        return math.gcd(self.channels, max(1, self.channels // 4))

    def shapes(self) -> Iterator[tuple[str, tuple[int, ...], float]]:
        """Name and shape of each parameter of one head, and the deviation it starts with."""
        c, patch = self.channels, KERNEL * KERNEL * self.channels
        yield "reduce", (self.width, c), self.width**-0.5
        for k in range(self.convolutions):
            yield f"conv{k}", (patch, c), patch**-0.5
            yield f"gain{k}", (c,), 0.0
            yield f"shift{k}", (c,), 0.0
        yield "out", (c,), c**-0.5
        yield "bias", (), 0.0

    @property
    def names(self) -> list[str]:
        """Of all parameters."""
        return [name for name, _, _ in self.shapes()]

    def fresh(self, count: int, generator: torch.Generator) -> Heads:
        """``count`` new heads: weights normal, gains (less 1) and shifts zero; fp32, on the CPU."""
        return {
            name: torch.randn((count, *shape), generator=generator) * deviation
            for name, shape, deviation in self.shapes()
        }

    def __call__(self, heads: Heads, features: Tensor) -> Tensor:
        """Logits of n heads, the first n / m on the first of m features, and so on.

        Args:
            heads: n of them.
            features: (m, B, h, w, width), where m divides n; h and w at least 2 to the number of
                convolutions.

        Returns:
            (n, B, places), large where the features look real.
        """
        n, batch = len(heads["reduce"]), features.shape[1]
        x = F.silu(_reduced(features, heads["reduce"]))
        for k in range(self.convolutions):
            x = _convolved(x, heads[f"conv{k}"])
            x = _normed(x, heads[f"gain{k}"], heads[f"shift{k}"], self.groups)
            x = F.silu(x)
        places = x.reshape(n, batch, -1, self.channels)
        logits = torch.einsum("nbpc,nc->nbp", places, heads["out"])
        return logits + heads["bias"][:, None, None]


def _reduced(features: Tensor, weight: Tensor) -> Tensor:
    """features (m, B, h, w, a) times weight (n, a, b): (n, B, h, w, b); features are not copied."""
    beside = weight.unflatten(0, (len(features), -1)).transpose(1, 2)  # (m, a, n / m, b)
    found = _linear(features, beside.flatten(2)).unflatten(-1, beside.shape[2:])
    return found.movedim(-2, 1).flatten(0, 1)


def _linear(x: Tensor, weight: Tensor) -> Tensor:
    """x (n, ..., a) times weight (n, a, b), head by head."""
    return torch.bmm(x.flatten(1, -2), weight).unflatten(1, x.shape[1:-1])


def _convolved(x: Tensor, weight: Tensor) -> Tensor:
    """(n, B, h, w, c) -> (n, B, h // 2, w // 2, c); ``weight`` (n, c 4 4, c)."""
    padded = F.pad(x, (0, 0, PADDING, PADDING, PADDING, PADDING))
    patches = padded.unfold(2, KERNEL, STRIDE).unfold(3, KERNEL, STRIDE)  # (..., c, 4, 4)
    return _linear(patches.flatten(-3), weight)


def _normed(x: Tensor, gain: Tensor, shift: Tensor, groups: int) -> Tensor:
    """GroupNorm of each head and image over (places, channels of a group), in fp32 at least."""
    grouped = at_least_fp32(x).flatten(2, 3).unflatten(-1, (groups, -1))
    variance, mean = torch.var_mean(grouped, dim=(2, 4), keepdim=True, correction=0)
    normed = ((grouped - mean) * torch.rsqrt(variance + EPS)).flatten(-2).view_as(x)
    return normed * (1 + gain[:, None, None, None]) + shift[:, None, None, None]

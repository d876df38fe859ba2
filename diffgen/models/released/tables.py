"""Weights that released checkpoints lay out otherwise than diffgen."""

import math

import torch
from torch import Tensor

from diffgen.config.positions import SinCosConfig
from diffgen.models.tokens import grid_coords
from diffgen.positions.sincos import SinCos


def flat_convolution(weight: Tensor) -> Tensor:
    """(d, C, p, p) of a convolution with stride p -> (d, C p^2) of a linear map of patches."""
    return weight.flatten(1)


def convolution(weight: Tensor, patch: int) -> Tensor:
    """The inverse of ``flat_convolution``."""
    return weight.unflatten(1, (-1, patch, patch))


def channels_first(rows: Tensor, channels: int) -> Tensor:
    """Output rows (p, p, C) -> (C, p, p): DiT's order inside a token to diffgen's."""
    return rows.unflatten(0, (-1, channels)).transpose(0, 1).flatten(0, 1).contiguous()


def channels_last(rows: Tensor, channels: int) -> Tensor:
    """The inverse of ``channels_first``."""
    return rows.unflatten(0, (channels, -1)).transpose(0, 1).flatten(0, 1).contiguous()


def position_table(side: int, width: int) -> Tensor:
    """(1, side^2, width) fp32: the sine-cosine table DiT keeps among its weights."""
    encoding = SinCos(SinCosConfig(), width, (side, side))
    return encoding.embed(grid_coords(side, side), torch.tensor([side, side]))[None]


def table_side(table: Tensor) -> int | None:
    """Tokens along the side of the grid ``table`` was made for; None: it is another table."""
    side = math.isqrt(table.shape[1]) if table.ndim == 3 else 0
    if side < 1 or side * side != table.shape[1] or table.shape[2] % 4:
        return None
    same = torch.allclose(
        table.float(), position_table(side, table.shape[2]), atol=5e-3
    )  # kept in bf16, too
    return side if same else None

"""Fixed 2-D sine-cosine embedding (Dosovitskiy et al. 2021; DiT, Peebles and Xie 2023)."""

import torch
from torch import Tensor

from diffgen.config.positions import SinCosConfig
from diffgen.positions.base import Position
from diffgen.transfer import values_like


def sincos_1d(position: Tensor, channels: int) -> Tensor:
    """(...,) -> (..., channels): sines, then cosines, at 10000^(-2j / channels)."""
    steps = torch.arange(channels // 2, dtype=torch.float64, device=position.device)
    frequencies = 10_000.0 ** (-2 * steps / channels)
    angles = position.double()[..., None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=-1).float()


def sincos_2d(coords: Tensor, channels: int) -> Tensor:
    """(..., 2) coordinates (row, column) -> (..., channels).

    The first half of the channels holds the column, the second the row, as in released DiT
    checkpoints. ``channels`` must be a multiple of 4.
    """
    row, column = coords.unbind(-1)
    half = channels // 2
    return torch.cat([sincos_1d(column, half), sincos_1d(row, half)], dim=-1)


def onto_trained_grid(coords: Tensor, sizes: Tensor, grid: tuple[int, int]) -> Tensor:
    """Coordinates on a grid of ``sizes`` tokens -> where they lie on one of ``grid`` tokens.

    Token centres are matched (half-token convention), so on the trained grid nothing moves and
    on any other one no coordinate leaves the range the model was trained on.
    """
    return (coords + 0.5) * values_like(grid, coords) / sizes - 0.5


class SinCos(Position):
    """Adds the embedding to the tokens, interpolated from the trained grid to any other.

    Args:
        config: whether other grids are interpolated, temperature.
        hidden_size: width of a token.
        grid: height and width of the training images [tokens].
    """

    def __init__(self, config: SinCosConfig, hidden_size: int, grid: tuple[int, int]) -> None:
        super().__init__(config.temperature, grid)
        self.config = config
        self.hidden_size = hidden_size

    def embed(self, coords: Tensor, sizes: Tensor) -> Tensor:
        """See Position.embed."""
        if self.config.interpolate:
            coords = onto_trained_grid(coords, sizes, self.grid)
        return sincos_2d(coords, self.hidden_size)

"""Positional encodings: the type of the configuration picks the class."""

from diffgen.config.positions import NoPosition, PositionConfig, RopeConfig, SinCosConfig
from diffgen.positions.base import Position
from diffgen.positions.rope import Rope
from diffgen.positions.sincos import SinCos

__all__ = ["Position", "Rope", "SinCos", "build_position"]


def build_position(
    config: PositionConfig, hidden_size: int, num_heads: int, grid: tuple[int, int]
) -> Position:
    """The encoding ``config`` asks for, for a backbone trained on ``grid`` tokens."""
    match config:
        case NoPosition():
            return Position(config.temperature, grid)
        case SinCosConfig():
            return SinCos(config, hidden_size, grid)
        case RopeConfig():
            additive = SinCos(SinCosConfig(), hidden_size, grid) if config.additive else None
            return Rope(config, hidden_size // num_heads, grid, additive)

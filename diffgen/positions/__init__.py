"""Positional encodings: the type of the configuration picks the class."""

from diffgen.config.positions import (
    NoPosition,
    PositionConfig,
    RopeConfig,
    RPE2DConfig,
    SinCosConfig,
)
from diffgen.positions.base import Draws, Position
from diffgen.positions.rope import Rope
from diffgen.positions.rpe2d import RPE2D
from diffgen.positions.sincos import SinCos

__all__ = ["RPE2D", "Draws", "Position", "Rope", "SinCos", "build_position"]


def build_position(
    config: PositionConfig, hidden_size: int, num_heads: int, grid: tuple[int, int]
) -> Position:
    """The encoding ``config`` asks for, for a backbone trained on ``grid`` tokens."""
    grid = config.trained(grid)
    match config:
        case NoPosition():
            return Position(config.temperature, grid)
        case SinCosConfig():
            return SinCos(config, hidden_size, grid)
        case RopeConfig():
            additive = SinCos(SinCosConfig(), hidden_size, grid) if config.additive else None
            return Rope(config, hidden_size // num_heads, grid, additive)
        case RPE2DConfig():
            counted = SinCos(SinCosConfig(interpolate=False), hidden_size, grid)
            if config.base == "sincos":
                return RPE2D(config, counted, grid)
            turning = RopeConfig(theta=config.theta, additive=False)
            additive = counted if config.additive else None
            return RPE2D(config, Rope(turning, hidden_size // num_heads, grid, additive), grid)

"""Positional encodings: the type of the configuration picks the class."""

from diffgen.config.positions import NoPosition, PositionConfig, RopeConfig, SinCosConfig
from diffgen.positions.base import Position
from diffgen.positions.rope import Rope
from diffgen.positions.sincos import SinCos

__all__ = ["Position", "Rope", "SinCos", "build_position"]


def build_position(config: PositionConfig, hidden_size: int, num_heads: int) -> Position:
    """The encoding ``config`` asks for, sized for the backbone."""
    match config:
        case NoPosition():
            return Position()
        case SinCosConfig():
            return SinCos(hidden_size)
        case RopeConfig():
            return Rope(hidden_size, hidden_size // num_heads, config.theta, config.additive)

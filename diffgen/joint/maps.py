"""Maps of a condition as pictures a DiT can draw, and back."""

from torch import Tensor

from diffgen.lacon.conditions import Condition


def as_picture(maps: Tensor, condition: Condition) -> Tensor:
    """Maps (B, channels, H, W) in the condition's range -> (B, 3, H, W) in [-1, 1]."""
    maps = maps * 2 - 1 if condition.binary else maps
    return maps.expand(-1, 3, -1, -1)


def from_picture(pictures: Tensor, condition: Condition) -> Tensor:
    """The inverse for drawn pictures (B, 3, H, W): grey is the mean of the channels, clipped."""
    maps = pictures if condition.channels == 3 else pictures.mean(dim=1, keepdim=True)
    maps = maps.clamp(-1, 1)
    return (maps + 1) / 2 if condition.binary else maps

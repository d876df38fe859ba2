"""Axial 2-D rotary encoding (Su et al. 2021; the 2-D layout of FiT, Lu et al. 2024).

The first half of a head's channels turns with the row, the second with the column; within a half,
neighbouring channels (2j, 2j + 1) form the pair turned by position * theta^(-2j / D), D = half
the head size. The logit of a query and a key then depends on their difference in position only.
"""

import torch
from torch import Tensor

from diffgen.positions.base import Position
from diffgen.positions.sincos import SinCos


def axial_angles(coords: Tensor, head_size: int, theta: float) -> Tensor:
    """(..., 2) coordinates -> (..., head_size / 2) angles [radians]."""
    per_axis = head_size // 2
    steps = torch.arange(0, per_axis, 2, dtype=torch.float64, device=coords.device)
    frequencies = theta ** (-steps / per_axis)
    angles = coords.double()[..., None] * frequencies  # (..., 2, head_size / 4)
    return angles.flatten(-2).float()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn channel pairs (2j, 2j + 1) of ``x`` (..., D); ``cos`` and ``sin`` are (..., D / 2)."""
    pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)))  # one pass instead of six
    return torch.view_as_real(pairs * torch.complex(cos, sin).to(pairs.dtype)).flatten(-2)


class Rope(Position):
    """Rotates queries and keys by how far apart tokens are.

    With ``additive`` it also adds an embedding of where on the canvas a token is.
    """

    def __init__(self, head_size: int, theta: float, additive: SinCos | None) -> None:
        super().__init__()
        self.head_size = head_size
        self.theta = theta
        self.additive = additive

    def embed(self, coords: Tensor, sizes: Tensor) -> Tensor | None:
        """See Position.embed."""
        return None if self.additive is None else self.additive.embed(coords, sizes)

    def rotation(self, coords: Tensor, sizes: Tensor, t: Tensor) -> Tensor:
        """See Position.rotation."""
        return axial_angles(coords, self.head_size, self.theta)

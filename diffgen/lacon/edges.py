"""Edges by Canny's detector (1986), as kornia has it."""

from kornia.filters import canny
from torch import Tensor

LOW, HIGH = 0.1, 0.2
"""Thresholds of the gradient, of levels in [0, 1]."""


def canny_edges(pictures: Tensor) -> Tensor:
    """(B, 3, H, W) in [-1, 1] -> (B, 1, H, W) fp32, 1 on an edge and 0 elsewhere.

    An edge of any of the three colours is one: between two colours of the same luma there is none
    in grey.
    """
    levels = (pictures + 1) / 2
    _, edges = canny(levels.flatten(0, 1)[:, None], LOW, HIGH)
    return edges.reshape(levels.shape).amax(dim=1, keepdim=True)

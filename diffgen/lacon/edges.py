"""Edges by Canny's detector (1986), as kornia has it."""

from kornia.filters import canny
from torch import Tensor

LOW, HIGH = 0.1, 0.2
"""Thresholds of the gradient, of grey levels in [0, 1]."""


def canny_edges(pictures: Tensor) -> Tensor:
    """(B, 3, H, W) in [-1, 1] -> (B, 1, H, W) fp32, 1 on an edge and 0 elsewhere."""
    _, edges = canny(grey(pictures), LOW, HIGH)
    return edges


def grey(pictures: Tensor) -> Tensor:
    """(B, 3, H, W) in [-1, 1] -> luma (B, 1, H, W) in [0, 1], by the weights of BT.601."""
    weights = pictures.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    return ((pictures * weights).sum(dim=1, keepdim=True) + 1) / 2

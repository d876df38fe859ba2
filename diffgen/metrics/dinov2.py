"""DINOv2 (Oquab et al. 2023) at another size than it was trained at."""

from math import isqrt

import torch
import torch.nn.functional as F
from torch import Tensor


def dinov2_positions(table: Tensor, side: int) -> Tensor:
    """Position embeddings for `side` x `side` patches, as the released code makes them.

    It resamples the trained grid bicubically (a = -0.75) without antialias, by the factor
    (side + 0.1) / sqrt(N), so the places lie slightly closer together than N / side would put
    them. timm resamples with antialias and without the 0.1, which gives other features.

    Args:
        table: (1, 1 + N, D), of the class token and of a square grid of N patches, row by row.
        side: patches a side.

    Returns:
        (1, 1 + side², D) float32. `table` itself where N = side².
    """
    token, grid = table[:, :1].float(), table[:, 1:].float()
    trained = isqrt(grid.shape[1])
    if trained == side:
        return table.float()
    planes = grid.mT.unflatten(2, (trained, trained))
    planes = F.interpolate(planes, scale_factor=(side + 0.1) / trained, mode="bicubic")
    return torch.cat([token, planes.flatten(2).mT], dim=1)

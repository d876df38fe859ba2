"""Figures of depth, as depth estimation states them (Eigen et al. 2014), and what is to beat:
a depth, or a map, that is the same for all pictures.

Depth is positive, (B, 1, H, W), the wanted one exact. AbsRel: mean |d - d*| / d*; delta1: the share
of pixels with max(d / d*, d* / d) < 1.25.
"""

import torch
from torch import Tensor

NEAR, FAR = 1.0, 10.0
"""Of the data's depth."""
DELTA = 1.25


def depth_of(maps: Tensor) -> Tensor:
    """Maps in [-1, 1], near to far, as depth in [1, 10]."""
    return ((NEAR + FAR) / 2 + (FAR - NEAR) / 2 * maps).clamp(NEAR, FAR)


def abs_rel(found: Tensor, wanted: Tensor) -> Tensor:
    """AbsRel of each picture: (B,), 0 at best."""
    return ((found - wanted).abs() / wanted).mean(dim=(1, 2, 3))


def delta1(found: Tensor, wanted: Tensor) -> Tensor:
    """delta1 of each picture: (B,), 1 at best."""
    ratio = torch.maximum(found / wanted, wanted / found)
    return (ratio < DELTA).float().mean(dim=(1, 2, 3))


def best_constant(wanted: Tensor) -> float:
    """The depth whose AbsRel is least where it stands for every pixel of every picture."""
    return float(best_fixed(wanted.reshape(-1, 1, 1, 1)))


def best_fixed(wanted: Tensor) -> Tensor:
    """The map (1, 1, H, W) whose AbsRel, a mean over all of ``wanted``, is least.

    At each pixel sum_n |c - d*_n| / d*_n is least at the median of d*_n where each counts by
    1 / d*_n.
    """
    depth, _ = wanted.double().sort(dim=0)
    counted = (1 / depth).cumsum(0)
    middle = (counted < counted[-1:] / 2).sum(0, keepdim=True)
    return depth.gather(0, middle).to(wanted)

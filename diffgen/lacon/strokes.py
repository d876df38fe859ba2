"""Colours without detail: strokes of a brush, and a palette of a few cells."""

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageFilter
from torch import Tensor

from diffgen.data.pixels import to_pil, to_uint8

COLOURS = 16
"""Of a stroke picture (LaCon)."""
BRUSH = 23 / 512
"""Width of the median filter, as a share of the short side (LaCon: 23 of 512 pixels)."""
CELLS = 8
"""Of a palette along the short side (LaCon: 8 x 8)."""


def colour_strokes(pictures: Tensor) -> Tensor:
    """(B, 3, H, W) in [-1, 1] -> the same, smoothed by a median and painted in 16 colours."""
    painted = [_painted(picture) for picture in to_pil(to_uint8(pictures))]
    levels = torch.stack([torch.from_numpy(np.array(picture)) for picture in painted])
    return (levels.permute(0, 3, 1, 2).to(pictures) / 127.5 - 1).contiguous()


def _painted(picture: Image.Image) -> Image.Image:
    half = max(1, round(BRUSH * min(picture.size) / 2))
    smooth = picture.convert("RGB").filter(ImageFilter.MedianFilter(2 * half + 1))
    return smooth.quantize(COLOURS, kmeans=1, dither=Image.Dither.NONE).convert("RGB")


def palette_of(pictures: Tensor) -> Tensor:
    """(B, 3, H, W) in [-1, 1] -> the same, every cell of an 8 x 8 grid filled with its mean.

    The grid has 8 cells along the short side and cells as square as they can be.
    """
    height, width = pictures.shape[-2:]
    rows, columns = (
        min(side, round(CELLS * side / min(height, width))) for side in (height, width)
    )
    means = F.adaptive_avg_pool2d(pictures, (rows, columns))
    return F.interpolate(means, (height, width), mode="nearest")

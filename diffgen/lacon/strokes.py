"""Colours without detail: strokes of a brush, and a palette of a few cells."""

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Tensor

from diffgen.data.pixels import to_pil, to_uint8

COLOURS = 16
"""Of a stroke picture (LaCon)."""
BRUSH = 23 / 512
"""Width of the median filter, as a share of the short side (LaCon: 23 of 512 pixels)."""
WIDEST = 7
"""Of the filter [pixels], whose cost grows with its area: larger pictures are made smaller first,
which takes no more than the median would."""
CELLS = 8
"""Of a palette along the short side (LaCon: 8 x 8)."""


def colour_strokes(pictures: Tensor) -> Tensor:
    """(B, 3, H, W) in [-1, 1] -> the same, smoothed by a median and painted in 16 colours."""
    painted = [_painted(picture) for picture in to_pil(to_uint8(pictures))]
    levels = torch.stack([torch.from_numpy(np.array(picture)) for picture in painted])
    return (levels.permute(0, 3, 1, 2).to(pictures) / 127.5 - 1).contiguous()


def _painted(picture: Image.Image) -> Image.Image:
    brush = BRUSH * min(picture.size)
    factor = max(1, round(brush / WIDEST))
    half = max(1, round(brush / factor / 2))
    small = picture.convert("RGB").reduce(factor)
    smooth = small.filter(ImageFilter.MedianFilter(2 * half + 1))
    flat = smooth.quantize(COLOURS, kmeans=1, dither=Image.Dither.NONE).convert("RGB")
    return flat.resize(picture.size, Image.Resampling.NEAREST)


def palette_of(pictures: Tensor) -> Tensor:
    """(B, 3, H, W) in [-1, 1] -> the same, every cell of an 8 x 8 grid filled with its mean.

    The grid has 8 cells along the short side and cells as square as they can be; no two share a
    pixel.
    """
    height, width = pictures.shape[-2:]
    rows, columns = (_cells(side, min(height, width)).to(pictures) for side in (height, width))
    return rows @ pictures @ columns.T


def _cells(side: int, short: int) -> Tensor:
    """(side, side): what takes the mean of the cell that each of ``side`` pixels lies in."""
    count = min(side, round(CELLS * side / short))
    cell = torch.arange(side) * count // side
    same = (cell[:, None] == cell).float()
    return same / same.sum(dim=1, keepdim=True)

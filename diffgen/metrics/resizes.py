"""Resizing a picture to the size a network takes, in the ways published figures did.

They differ enough to move a Fréchet distance: without antialias a picture made smaller is sampled,
not averaged, and TensorFlow 1 samples at other places than everybody else.

Each function maps images (B, 3, H, W) uint8 to (B, 3, h, w) float32 on the same device, in [0, 255]
unless it says otherwise, and nothing is rounded. `size` is (h, w). The picture is stretched to it
whole: nothing is cropped, and sides need not be equal. At its own size a picture comes back as
it is.
"""

from typing import get_args

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from diffgen.config.resizes import Resize


def resize(images: Tensor, size: tuple[int, int], how: Resize) -> Tensor:
    """`images` (B, 3, H, W) uint8 -> (B, 3, *size) float32, by the function of that name.

    Raises ValueError for another shape, dtype or name.
    """
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(
            f"images must be (B, 3, H, W) uint8, got {images.dtype} {tuple(images.shape)}"
        )
    match how:
        case "tf1_bilinear":
            return tf1_bilinear(images, size)
        case "torch_bilinear":
            return torch_bilinear(images, size)
        case "torch_bilinear_antialias":
            return torch_bilinear_antialias(images, size)
        case "torch_bicubic_antialias":
            return torch_bicubic_antialias(images, size)
        case "pil_bicubic":
            return pil_bicubic(images, size)
        case _:
            raise ValueError(f"resize must be one of {get_args(Resize)}, got {how!r}")


def tf1_bilinear(images: Tensor, size: tuple[int, int]) -> Tensor:
    """TensorFlow 1's `resize_bilinear` with its defaults: inside the graph of FID's Inception.

    Output pixel i lies at i H / h, the first pixels of both on each other (there is no offset of
    half a pixel); beyond the last row or column that one is repeated. No antialias.
    """
    wide = _tf1_lines(images.float(), size[1])
    return _tf1_lines(wide.mT, size[0]).mT.contiguous()


def _tf1_lines(x: Tensor, count: int) -> Tensor:
    """The last axis of `x` brought to `count` points."""
    length = x.shape[-1]
    places = torch.arange(count, dtype=torch.float32, device=x.device) * (length / count)
    below = places.long()
    above = (below + 1).clamp(max=length - 1)
    low = x.index_select(-1, below)
    return low + (x.index_select(-1, above) - low) * (places - below)


def torch_bilinear(images: Tensor, size: tuple[int, int]) -> Tensor:
    """torch's: pixels are squares, corners of the pictures on each other; no antialias.

    As pytorch-fid resizes.
    """
    return F.interpolate(images.float(), size, mode="bilinear", align_corners=False)


def torch_bilinear_antialias(images: Tensor, size: tuple[int, int]) -> Tensor:
    """The same, averaged over the pixels an output pixel covers where the picture gets smaller.

    torchmetrics' `FrechetInceptionDistance` does so unless told `antialias=False`.
    """
    return F.interpolate(images.float(), size, mode="bilinear", align_corners=False, antialias=True)


def torch_bicubic_antialias(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Bicubic (a = -0.5, PIL's), averaged where the picture gets smaller.

    As EDM2's `calculate_metrics.py` resizes for DINOv2. Like there it is not clipped: beside sharp
    edges values lie outside [0, 255].
    """
    return F.interpolate(images.float(), size, mode="bicubic", align_corners=False, antialias=True)


def pil_bicubic(images: Tensor, size: tuple[int, int]) -> Tensor:
    """PIL's bicubic of each channel as floats, clipped to [0, 255]: clean-fid's (Parmar et al.
    2022). On the CPU, whatever the device.

    PIL's resize of a picture in 8 bits, which others use, rounds and clips after each of its two
    passes.
    """
    height, width = size
    planes = images.flatten(0, 1).float().cpu().numpy()
    resized = [
        np.asarray(Image.fromarray(plane).resize((width, height), Image.Resampling.BICUBIC))
        for plane in planes
    ]
    values = torch.from_numpy(np.stack(resized).clip(0, 255))
    return values.unflatten(0, images.shape[:2]).to(images.device)

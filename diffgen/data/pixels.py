"""Between the model's [-1, 1] and 8-bit pictures; the one place they are quantised."""

import numpy as np
import torch
from PIL import Image
from torch import Tensor

NOTICED = 8
"""Levels by which the channels of a grey picture may differ, as JPEG makes them."""
QUANTISATION = "clip to [-1, 1], then round half to even of 127.5 x + 127.5"


def to_uint8(x: Tensor) -> Tensor:
    """(B, C, H, W) float in [-1, 1] -> uint8 in [0, 255], same shape; see QUANTISATION."""
    return (x.float().clamp(-1, 1) * 127.5 + 127.5).round().to(torch.uint8)


def from_uint8(x: Tensor) -> Tensor:
    """uint8 in [0, 255] -> float in [-1, 1]."""
    return x.float() / 127.5 - 1


def grey(x: Tensor) -> Tensor:
    """(B, 3, H, W) -> luma (B, 1, H, W), by the weights of BT.601, as Pillow converts to "L"."""
    weights = x.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    return (x * weights).sum(dim=1, keepdim=True)


def to_pil(x: Tensor) -> list[Image.Image]:
    """(B, C, H, W) uint8, C = 1 or 3 -> B pictures."""
    arrays = x.permute(0, 2, 3, 1).cpu().numpy()
    return [Image.fromarray(a[..., 0] if a.shape[-1] == 1 else a) for a in arrays]


def from_pil(image: Image.Image) -> Tensor:
    """Picture -> (3, H, W) uint8 in RGB."""
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)


def to_output(x: Tensor, output_type: str) -> list[Image.Image] | np.ndarray | Tensor:
    """(B, C, H, W) float in [-1, 1] in the forms diffusers names.

    "pil": pictures; "pt": (B, C, H, W) fp32 in [0, 1]; "np": the same as (B, H, W, C) array.
    """
    if output_type == "pil":
        return to_pil(to_uint8(x))
    unit = (x / 2 + 0.5).clamp(0, 1)
    return unit if output_type == "pt" else unit.permute(0, 2, 3, 1).cpu().numpy()

"""How colourful images are: what too much guidance spoils first.

Every measure is taken image by image and averaged over images. The formulas are stated here
because published figures of the same names differ in them.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from diffgen.metrics.intervals import Interval, mean_estimate

MEASURES = ("saturation", "contrast", "clipped", "colourfulness")
LUMA = (0.2126, 0.7152, 0.0722)
"""Shares of red, green and blue in brightness (ITU-R BT.709)."""
PIXELS = 2**20
"""So many are measured at once, for bounded memory."""


@dataclass(frozen=True)
class Mean:
    """A measure averaged over images."""

    mean: float
    interval: Interval | None
    """95 %, from the images' standard deviation; None: there is one image, or all measure alike."""


def colour_measures(images: Tensor) -> Tensor:
    """(B, 3, H, W) uint8 RGB -> (B, 4) float64, in the order of ``MEASURES``.

    saturation: mean over pixels of HSV's S, (max - min) / max, 0 for black; in [0, 1].
    contrast: RMS contrast, the standard deviation over pixels of the luma in [0, 1].
    clipped: share of pixels with a channel at 0 or 255.
    colourfulness: Hasler and Süsstrunk 2003, eq. 9: with rg = R - G and yb = (R + G) / 2 - B of
    channels in [0, 255], |(std rg, std yb)| + 0.3 |(mean rg, mean yb)|.

    Raises:
        ValueError: another dtype or shape.
    """
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(
            f"images must be (B, 3, H, W) uint8, got {images.dtype} {tuple(images.shape)}"
        )
    at_once = max(1, PIXELS // (images.shape[-1] * images.shape[-2]))
    return torch.cat([_measures(part) for part in images.split(at_once)])


def _measures(images: Tensor) -> Tensor:
    pixels = images.flatten(2).double()  # (B, 3, N)
    least, most = pixels.amin(1), pixels.amax(1)
    saturation = ((most - least) / most.clamp(min=1)).mean(1)
    luma = torch.einsum("c,bcn->bn", pixels.new_tensor(LUMA), pixels) / 255
    clipped = ((least == 0) | (most == 255)).double().mean(1)
    red, green, blue = pixels.unbind(1)
    opponents = torch.stack([red - green, (red + green) / 2 - blue], dim=1)  # (B, 2, N)
    spread = opponents.std(dim=2, correction=0).norm(dim=1)
    colourfulness = spread + 0.3 * opponents.mean(2).norm(dim=1)
    contrast = luma.std(dim=1, correction=0)
    return torch.stack([saturation, contrast, clipped, colourfulness], dim=1)


def colour_means(measures: Tensor) -> dict[str, Mean]:
    """The measures (N, 4) of N images, averaged."""
    found = (mean_estimate(values.tolist()) for values in measures.unbind(1))
    return {name: Mean(one.value, one.interval) for name, one in zip(MEASURES, found, strict=True)}

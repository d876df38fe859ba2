"""What stands out in a picture, by its colours (Achanta et al. 2009)."""

import torch
from kornia.color import rgb_to_lab
from kornia.filters import gaussian_blur2d
from torch import Tensor

FAINTEST = 1.0
"""Difference in CIELAB below which nothing stands out: one that is hardly seen."""


def salient_mask(pictures: Tensor) -> Tensor:
    """(B, 3, H, W) in [-1, 1] -> (B, 1, H, W) fp32, 1 where a picture is salient, else 0.

    Saliency is the distance of each smoothed pixel from the picture's mean colour, in CIELAB
    (Achanta et al. 2009); what exceeds Otsu's (1979) threshold is salient. The mean is that of the
    border here, which an object in the middle does not reach. A picture of one colour has nothing.
    """
    smooth = rgb_to_lab(gaussian_blur2d((pictures + 1) / 2, (3, 3), (0.7, 0.7)))
    rim = torch.cat(
        [smooth[..., 0, :], smooth[..., -1, :], smooth[..., :, 0], smooth[..., :, -1]], dim=-1
    )
    mean = rim.mean(dim=-1)[:, :, None, None]
    saliency = (smooth - mean).square().sum(dim=1, keepdim=True).sqrt()
    return (saliency > otsu(saliency).clamp(min=FAINTEST)).float()


def otsu(maps: Tensor, bins: int = 64) -> Tensor:
    """Otsu's (1979) threshold of each map (B, 1, H, W): (B, 1, 1, 1), maximal variance between."""
    values = maps.flatten(1)
    low, high = values.amin(dim=1, keepdim=True), values.amax(dim=1, keepdim=True)
    places = ((values - low) / (high - low).clamp(min=1e-12) * (bins - 1)).round().long()
    counts = values.new_zeros(len(values), bins)
    counts.scatter_add_(1, places, torch.ones_like(values))
    share = counts / values.shape[1]
    levels = torch.arange(bins, device=maps.device, dtype=share.dtype)
    below, moment = share.cumsum(1), (share * levels).cumsum(1)
    total = moment[:, -1:]
    between = (total * below - moment).square() / (below * (1 - below)).clamp(min=1e-12)
    best = between.argmax(dim=1, keepdim=True)
    threshold = low + (best + 0.5) / (bins - 1) * (high - low)
    return threshold.view(-1, 1, 1, 1)

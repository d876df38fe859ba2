"""What a pair of models draws, and what the first one keeps of a noisy image, as pictures."""

import torch
from PIL import Image
from torch import Tensor

from diffgen.commands.memorization.figures import Measured
from diffgen.commands.memorization.pair import Pair
from diffgen.data.pixels import to_pil, to_uint8
from diffgen.metrics.jacobian import Modes, jacobian, leading_modes
from diffgen.sampling.sheet import enlarged

MODES = 8
"""Eigenvectors that are shown."""


def middle(levels: list[float]) -> float:
    """The noise level that eigenvectors are shown at."""
    return levels[len(levels) // 2]


def sample_strip(found: Measured, count: int) -> Image.Image:
    """Three rows: samples of both models from the same noise, and training images of the first."""
    rows = (*found.samples, found.nearest)
    return strip([images[:count] for images in rows])


def modes_strip(pair: Pair) -> tuple[Image.Image, Modes]:
    """The first held-out image: clean, noisy, denoised, and the leading eigenvectors there.

    An eigenvector is drawn about grey, its largest entry as black or white of a channel.
    """
    sigma, clean, device = middle(pair.config.levels()), pair.held_out[0], pair.pipes[0].device
    denoise, noisy = pair.denoiser(0, sigma), clean + sigma * pair.noise()[0]
    modes = leading_modes(jacobian(denoise, noisy.to(device)).cpu(), MODES)
    with torch.no_grad():
        denoised = denoise(noisy[None].to(device))[0].cpu()
    shown = (modes.vectors / modes.vectors.abs().amax(1, keepdim=True)).float()
    images = [clean, noisy, denoised, *shown.reshape(-1, *clean.shape)]
    return strip([torch.stack(images)]), modes


def strip(rows: list[Tensor]) -> Image.Image:
    """Rows of images (B, 3, H, W) in [-1, 1], each row side by side, enlarged if small."""
    tiled = torch.cat([torch.cat(list(images), dim=-1) for images in rows], dim=-2)
    picture = to_pil(to_uint8(tiled[None]))[0]
    return enlarged(picture, min(rows[0].shape[-2:]))

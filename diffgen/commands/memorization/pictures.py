"""What a pair of models draws, and what the first one keeps of a noisy image, as pictures."""

import torch
from PIL import Image
from torch import Tensor

from diffgen.commands.memorization.pair import Pair
from diffgen.data.pixels import to_pil, to_uint8
from diffgen.metrics.jacobian import Modes, leading_modes
from diffgen.sampling.sheet import enlarged

MODES = 8
"""Eigenvectors that are shown."""


def middle(levels: list[float]) -> float:
    """The noise level that eigenvectors are shown at."""
    return levels[len(levels) // 2]


def sample_strip(samples: tuple[Tensor, Tensor], nearest: Tensor) -> Image.Image:
    """Three rows: samples of both models from the same noise, and training images of the first."""
    return strip([*samples, nearest])


def modes_strip(pair: Pair, matrix: Tensor) -> tuple[Image.Image, Modes]:
    """The first held-out image: clean, noisy, denoised, and the leading eigenvectors there.

    ``matrix``: the Jacobian of the first model there, (d, d).

    An eigenvector is drawn about grey, its largest entry as black or white of a channel.
    """
    sigma, clean = middle(pair.config.levels()), pair.held_out[0]
    denoise, noisy = pair.denoiser(0, sigma), clean + sigma * pair.noise()[0]
    modes = leading_modes(matrix, MODES)
    with torch.no_grad():
        denoised = denoise(noisy[None].to(pair.device))[0].cpu()
    shown = (modes.vectors / modes.vectors.abs().amax(1, keepdim=True)).float()
    images = [clean, noisy, denoised, *shown.reshape(-1, *clean.shape)]
    return strip([torch.stack(images)]), modes


def strip(rows: list[Tensor]) -> Image.Image:
    """Rows of images (B, 3, H, W) in [-1, 1], each row side by side, enlarged if small."""
    tiled = torch.cat([torch.cat(list(images), dim=-1) for images in rows], dim=-2)
    picture = to_pil(to_uint8(tiled[None]))[0]
    return enlarged(picture, min(rows[0].shape[-2:]))

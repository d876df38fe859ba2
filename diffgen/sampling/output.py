"""What the pipeline returns."""

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from diffusers.utils import BaseOutput
from PIL import Image
from torch import Tensor

from diffgen.config.vae import LatentFormat

OutputType = Literal["pil", "np", "pt", "latent"]


@dataclass
class ImageOutput(BaseOutput):
    """What the pipeline returns."""

    images: list[Image.Image] | np.ndarray | Tensor
    """A list of pictures ("pil"), (B, H, W, C) fp32 in [0, 1] ("np"), (B, C, H, W) fp32 in
    [0, 1] ("pt"), or the model's own x0, normalised latents or pixels in about [-1, 1],
    (B, C, h, w) fp32 ("latent")."""


def check_output(output_type: str) -> None:
    """Raise ValueError for an output that is none."""
    if output_type not in get_args(OutputType):
        raise ValueError(f"output_type {output_type!r} is not one of {get_args(OutputType)}")


def check_decodable(channels: int, form: LatentFormat | None, vae: Any) -> None:
    """Raise ValueError for a model of latents, of ``channels`` in ``form``, without a VAE."""
    latent = form is not None or channels not in (1, 3)
    if latent and vae is None:
        raise ValueError(
            f"this is a model of latents ({channels} channels) without a VAE; load it with "
            "from_pretrained(..., vae=...), or ask for output_type='latent'"
        )

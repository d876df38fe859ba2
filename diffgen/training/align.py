"""Representation alignment (REPA, Yu et al. 2024, arXiv:2410.06940).

A projection of the tokens after one block learns to point where a frozen encoder's features of
the clean image point.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import torch
import torch.nn.functional as F
from timm.data import resolve_model_data_config
from torch import Tensor, nn

from diffgen.config.align import AlignConfig
from diffgen.config.base import token_grid
from diffgen.data.order import Sample
from diffgen.errors import UserError
from diffgen.metrics.timm_network import build, downloaded, pretrained_settings
from diffgen.metrics.weights import reason
from diffgen.models.dit import DiT
from diffgen.models.projector import Projector
from diffgen.models.taps import tapped
from diffgen.seeding import stream_generator


def alignment_loss(projected: Tensor, features: Tensor) -> Tensor:
    """REPA's loss: minus the cosine of the angle between the two, averaged over all patches.

    ``projected``, ``features``: (B, N, D) float. Returns 0-d fp32 in [-1, 1].
    """
    return -F.cosine_similarity(projected.float(), features.float(), dim=-1).mean()


def on_grid(features: Tensor, rows: int, columns: int) -> Tensor:
    """Features (B, D, h, w) of an encoder's grid -> (B, rows * columns, D) of the tokens', fp32.

    Bilinear, averaged where the grid gets coarser; the same grid is left as it is.
    """
    resized = F.interpolate(
        features.float(), (rows, columns), mode="bilinear", align_corners=False, antialias=True
    )
    return resized.flatten(2).mT


@dataclass(frozen=True, eq=False)
class PatchEncoder:
    """A frozen timm model that gives features of patches."""

    network: Any
    """With timm's ``forward_features``."""
    size: tuple[int, int]
    """Height and width it sees [pixels]."""
    mean: Tensor
    """(3, 1, 1) of images in [0, 1]; so is ``std``."""
    std: Tensor

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """``images`` (B, 3, H, W) float in [-1, 1], on its device -> (B, D, h, w).

        Images are stretched to its size: bicubic with antialias, not clipped.

        Raises:
            ValueError: its features lie on no grid.
        """
        seen = F.interpolate(images, self.size, mode="bicubic", align_corners=False, antialias=True)
        found = self.network.forward_features((seen / 2 + 0.5 - self.mean) / self.std)
        if not isinstance(found, Tensor) or found.ndim not in (3, 4):
            raise ValueError("its features lie on no grid")
        if found.ndim == 4:
            last = getattr(self.network, "output_fmt", "NCHW") == "NHWC"
            return found.movedim(-1, 1) if last else found
        tokens = found[:, getattr(self.network, "num_prefix_tokens", 0) :]
        side = math.isqrt(tokens.shape[1])
        if side**2 != tokens.shape[1]:
            raise ValueError(f"its {tokens.shape[1]} patches make no square")
        return tokens.mT.unflatten(-1, (side, side))


def load_encoder(config: AlignConfig, device: torch.device) -> tuple[PatchEncoder, int]:
    """The encoder a configuration names, frozen in fp32, and the number D of its features.

    Raises:
        UserError: no such timm model, no connection to download by, weights of another model, an
            image size it cannot have, or it gives no features of patches.
    """
    name = config.encoder
    try:
        settings = pretrained_settings(name)
        path = config.weights or downloaded(name, settings)
        network = build(name, settings, path, config.image_size).to(device)
    except UserError as error:
        raise _ours(error) from None
    data = resolve_model_data_config(network, args={"img_size": config.image_size})
    channels, height, width = data["input_size"]
    if channels != 3:
        raise UserError(f"align.encoder: {name} takes {channels} channels, not 3")
    mean, std = (torch.tensor(data[key], device=device).view(-1, 1, 1) for key in ("mean", "std"))
    encoder = PatchEncoder(network, (height, width), mean, std)
    try:
        black = encoder(torch.full((1, 3, 64, 64), -1.0, device=device))
    except (AssertionError, IndexError, RuntimeError, ValueError) as error:
        raise UserError(
            f"align.encoder: {name} at {height}x{width} gives no features of patches: "
            f"{reason(error)}"
        ) from None
    return encoder, black.shape[1]


def _ours(error: UserError) -> UserError:
    """What is said of an evaluation's extractor, in the words of this section."""
    said = str(error).replace("neither reader, inception nor a timm model", "not a timm model")
    said = said.replace("extractor", "encoder").replace("--weights", "--align.weights")
    return UserError(f"align.{said}")


def attach_projector(model: DiT, config: AlignConfig, features: int, seed: int) -> None:
    """Give ``model`` a ``projector`` to ``features``, drawn by the run's seed.

    From then on it is one of the model's parts: trained, averaged and saved with it. It must come
    before the optimisers are built and the model is prepared for several processes.
    """
    width = cast(int, model.config.hidden_size)
    generator = stream_generator(seed, "align", 0)
    projector = Projector(width, config.hidden, features, generator)
    model.projector = projector.to(model.device)


@dataclass(eq=False)
class Alignment:
    """``objective`` and the alignment, as the objective of a training loop."""

    objective: Callable[[nn.Module, Sample], Tensor]
    """(model, batch) -> the mean of the denoising losses, 0-d; runs the model once."""
    model: DiT
    """The one that is trained, unwrapped, with its projector."""
    encoder: PatchEncoder
    config: AlignConfig
    sums: Tensor = field(init=False)
    """(3,) fp64: both losses, summed over images, and the number of images."""

    def __post_init__(self) -> None:
        self.block = self.config.aligned_block(len(self.model.blocks))
        self.sums = torch.zeros(3, dtype=torch.float64, device=self.encoder.mean.device)

    def __call__(self, model: nn.Module, batch: Sample) -> Tensor:
        """L_denoising + lambda L_REPA, 0-d fp32; ``model``: as prepared for several processes.

        Raises:
            ValueError: there are more or fewer tokens after the block than an image has.
        """
        with tapped(self.model, [self.block]) as taps:
            denoising = self.objective(model, batch)
        images = batch["image"].to(self.sums.device, non_blocking=True)
        aligned = self._aligned(taps.features[self.block], images)
        both = torch.stack([denoising.detach(), aligned.detach()]).double()
        self.sums[:2] += both * len(images)
        self.sums[2] += len(images)
        return denoising + self.config.weight * aligned

    def _aligned(self, tokens: Tensor, images: Tensor) -> Tensor:
        """0-d, of (B, N, width) tokens after the block and their clean (B, 3, H, W) images."""
        sample_size, patch = self.model.config.sample_size, self.model.config.patch_size
        rows, columns = token_grid(tuple(sample_size), patch)
        if tokens.shape[1] != rows * columns:
            raise ValueError(
                f"align: {tokens.shape[1]} tokens after block {self.block}, but images of "
                f"{rows}x{columns}"
            )
        projector = cast(Projector, self.model.projector)
        return alignment_loss(projector(tokens), on_grid(self.encoder(images), rows, columns))

    def parts(self) -> dict[str, tuple[float, float]]:
        """Sum over images and their number, of either loss since this was last called."""
        denoising, alignment, count = self.sums.tolist()
        self.sums.zero_()
        return {"denoising": (denoising, count), "alignment": (alignment, count)}

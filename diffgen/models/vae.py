"""Between images and the latents of an AutoencoderKL (Rombach et al. 2022), normalised."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from diffusers import AutoencoderKL
from safetensors import SafetensorError
from torch import Tensor

from diffgen.config.stored import from_hub
from diffgen.config.vae import ALLOWED, PICKLE, WEIGHTS, LatentFormat, find_vae
from diffgen.errors import UserError
from diffgen.transfer import to_device, values_like


@dataclass(frozen=True)
class LatentSpace:
    """An autoencoder and the normalisation of its latents, applied at both ends.

    The VAE computes in its own dtype; what comes out is fp32. It is never trained: nothing here is
    differentiated. (Its weights still say ``requires_grad``, as those diffusers loads do: torch
    chooses its kernels by that, and a picture would depend on who loaded the VAE.)
    """

    vae: AutoencoderKL
    format: LatentFormat

    def shape(self, height: int, width: int) -> tuple[int, int, int]:
        """(C, h, w) of the latents of an image of ``height`` x ``width`` pixels."""
        factor = self.format.factor
        return self.format.channels, height // factor, width // factor

    def encode(self, images: Tensor, noise: Tensor | None = None, batch_size: int = 8) -> Tensor:
        """Images to normalised latents.

        Args:
            images: (B, 3, H, W) in [-1, 1]; H and W multiples of ``format.factor``.
            noise: (B, C, h, w), unit normal: sample the posterior by it; None: take its mode.
            batch_size: images encoded at once.

        Returns:
            (B, C, h, w) fp32.
        """
        return self.sampled(self.posterior(images, batch_size), noise)

    @torch.no_grad()
    def posterior(self, images: Tensor, batch_size: int = 8) -> Tensor:
        """The moments of the posteriors of ``images``, as for ``encode``; not normalised.

        Returns:
            (B, 2C, h, w) fp32: the means, then the standard deviations.
        """

        def moments(part: Tensor) -> Tensor:
            found = self.vae.encode(part).latent_dist
            return torch.cat([found.mean, found.std], dim=1)

        return self._run(moments, images, batch_size)

    def sampled(self, moments: Tensor, noise: Tensor | None = None) -> Tensor:
        """Normalised latents out of posteriors.

        Args:
            moments: (B, 2C, h, w) fp32, as ``posterior`` gives them.
            noise: (B, C, h, w), unit normal; None: take the modes.

        Returns:
            (B, C, h, w) fp32.
        """
        mean, std = moments.chunk(2, dim=1)
        z = mean if noise is None else mean + std * to_device(noise, mean.device).to(mean.dtype)
        return (z - self._per_channel(self.format.mean, z)) / self._per_channel(self.format.std, z)

    @torch.no_grad()
    def decode(self, latents: Tensor, batch_size: int = 8, tiled: bool = False) -> Tensor:
        """Normalised latents to images.

        Args:
            latents: (B, C, h, w) float.
            batch_size: images decoded at once; bounds the memory.
            tiled: images larger than the VAE's own ``sample_size`` in overlapping tiles
                (diffusers' ``enable_tiling``), which leaves faint seams.

        Returns:
            (B, 3, H, W) fp32 in about [-1, 1].
        """
        z = latents.float()
        z = z * self._per_channel(self.format.std, z) + self._per_channel(self.format.mean, z)
        with _tiling(self.vae, tiled):
            return self._run(lambda part: self.vae.decode(part).sample, z, batch_size)

    def _run(self, function: Callable[[Tensor], Tensor], x: Tensor, batch_size: int) -> Tensor:
        """``function`` over slices of ``x`` in the VAE's own precision, put together in fp32."""
        with torch.autocast(x.device.type, enabled=False):
            parts = [function(part.to(self.vae.dtype)).float() for part in x.split(batch_size)]
        return torch.cat(parts)

    @staticmethod
    def _per_channel(values: tuple[float, ...], like: Tensor) -> Tensor:
        return values_like(values, like)[:, None, None]


@contextmanager
def _tiling(vae: AutoencoderKL, wanted: bool) -> Iterator[None]:
    """Tiles while it lasts; a VAE that tiles already goes on doing so."""
    before = vae.use_tiling
    vae.use_tiling = before or wanted
    try:
        yield
    finally:
        vae.use_tiling = before


def check_fit(channels: int, form: LatentFormat | None, own: LatentFormat | None) -> None:
    """Raise ValueError unless a model of ``channels``, its latents and a VAE's go together."""
    if form is not None and form.channels != channels:
        raise ValueError(f"transformer has {channels} channels, but the latents {form.channels}")
    if form and own and (form.channels, form.factor) != (own.channels, own.factor):
        raise ValueError(f"vae has {own}, but latent_format states {form}")


def vae_digest(vae: AutoencoderKL) -> str:
    """SHA-256 of the weights as they are computed with, whatever kind of file they came from."""
    digest = hashlib.sha256()
    for name, weight in sorted(vae.state_dict().items()):
        digest.update(f"{name} {tuple(weight.shape)} {weight.dtype}\n".encode())
        digest.update(weight.contiguous().view(torch.uint8).numpy())
    return digest.hexdigest()


def load_vae(
    path: str | Path,
    field: str = "vae",
    revision: str | None = None,
    dtype: torch.dtype = torch.float32,
) -> AutoencoderKL:
    """Load a VAE for inference, on the CPU.

    Args:
        path: folder or hub id of an AutoencoderKL, or of a pipeline that has one.
        field: option it was given by, for complaints.
        revision: branch, tag or commit on the hub.
        dtype: arithmetic it computes in.

    Raises:
        UserError: there is none, it is none of RGB images, or its weights are damaged.
    """
    folder = find_vae(str(path), field, revision).folder
    if not Path(path).exists():  # so far only the config.json of the hub's is here
        inside = "vae/" if folder.name == "vae" else ""
        patterns = [f"{inside}config.json", f"{inside}{WEIGHTS}"]
        from_hub(str(path), field, ALLOWED, patterns, {"revision": revision})
    safe = (folder / WEIGHTS).exists()
    if not safe and not (folder / PICKLE).exists():
        raise UserError(f"{field}: {path} has no weights ({WEIGHTS})")
    loading: dict[str, Any] = {"torch_dtype": dtype, "use_safetensors": safe}
    try:
        vae, report = AutoencoderKL.from_pretrained(folder, output_loading_info=True, **loading)
    except (OSError, SafetensorError, RuntimeError, ValueError, UnpicklingError) as error:
        raise UserError(f"{field}: {path} cannot be loaded: {error}") from error
    if report["missing_keys"]:
        raise UserError(f"{field}: {path} lacks weights, {report['missing_keys'][0]} among them")
    return vae.eval()

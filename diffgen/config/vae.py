"""The autoencoder of a latent model, and what can be known of it without torch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from diffgen.config.base import Section
from diffgen.config.stored import from_hub, read_json
from diffgen.errors import UserError

ALLOWED = "a folder or hub id of a diffusers AutoencoderKL, or of a pipeline that has one"
WEIGHTS = "diffusion_pytorch_model.safetensors"
SMALLEST_STD = 1e-6  # of a channel that says something
PICKLE = "diffusion_pytorch_model.bin"  # as old diffusers wrote; read without running it


class VAEConfig(Section):
    """A frozen autoencoder; the model is trained on its latents instead of pixels."""

    path: str
    """Folder or hub id of a diffusers AutoencoderKL, or of a pipeline that has one in vae/. A model
    of latents needs it; without any vae option the model sees pixels."""
    revision: str | None = None
    """Branch, tag or commit on the hub; none: the newest."""
    scale: float | None = Field(default=None, gt=0)
    """Factor that brings the latents to about unit variance; none: the VAE's own. Its shift is
    always its own. Only with normalise none."""
    normalise: Literal["none", "per_channel", "init"] = "none"
    """none: the VAE's shift and scale; per_channel: to mean 0 and variance 1 in every channel, as
    measured before the training, or when the latents were prepared; init: as the model of --init
    was trained."""
    statistics_images: int = Field(default=1024, ge=1)
    """Training images that normalise per_channel is measured on [images]; at most all."""
    sample: bool = True
    """Draw latents from the posterior, anew for each sample of the training; no: its mode."""
    batch_size: int = Field(default=8, ge=1)
    """Training images encoded at once on each process [images]."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Arithmetic of the encoder; bf16 needs a GPU."""

    def problems(self) -> Iterator[str]:
        """Yield a scale that would do nothing."""
        if self.scale is not None and self.normalise != "none":
            yield f"vae.scale: {self.scale} has no effect with vae.normalise {self.normalise}"


class LatentFormat(BaseModel):
    """How a model's latents come from the VAE's: (z - mean) / std, channel by channel."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    factor: int = Field(ge=1)
    """Side of the square of image pixels behind one latent pixel [pixels]."""
    mean: tuple[float, ...] = Field(min_length=1)
    """Of the VAE's latents, one for each channel."""
    std: tuple[Annotated[float, Field(gt=0)], ...]
    """Of the VAE's latents, one for each channel."""

    @model_validator(mode="after")
    def _one_for_each_channel(self) -> "LatentFormat":
        if len(self.mean) != len(self.std):
            raise ValueError(f"{len(self.mean)} means, but {len(self.std)} standard deviations")
        return self

    @property
    def channels(self) -> int:
        """Channels of the latents."""
        return len(self.mean)

    def __str__(self) -> str:
        return f"{self.channels} latent channels at 1/{self.factor} of an image's side"


@dataclass(frozen=True)
class StoredVAE:
    """An AutoencoderKL on the disk or the hub."""

    folder: Path
    """Where its config.json lies; of a hub id, without the weights."""
    format: LatentFormat
    """With its own normalisation."""


def own_format(settings: dict[str, Any], scale: float | None = None) -> LatentFormat:
    """The normalisation an AutoencoderKL's config asks for.

    diffusers scales by ``(z - shift_factor) scaling_factor``, and a VAE that states its latents'
    mean and standard deviation by ``(z - latents_mean) scaling_factor / latents_std``.
    """
    channels, levels = int(settings["latent_channels"]), len(settings["block_out_channels"])
    scale = scale or float(settings.get("scaling_factor") or 1.0)
    mean = settings.get("latents_mean") or [settings.get("shift_factor") or 0.0] * channels
    std = settings.get("latents_std") or [1.0] * channels
    return LatentFormat(
        factor=2 ** (levels - 1), mean=tuple(mean), std=tuple(s / scale for s in std)
    )


def standardising(
    factor: int, mean: Sequence[float], std: Sequence[float], count: int
) -> LatentFormat:
    """The format that brings latents of these statistics, of ``count`` images, to mean 0, std 1.

    Raises:
        UserError: a channel is constant.
    """
    for channel, deviation in enumerate(std):
        if deviation < SMALLEST_STD:
            raise UserError(
                f"vae.normalise: channel {channel} of the latents is constant over {count} "
                "images, so per_channel cannot scale it; use none"
            )
    return LatentFormat(factor=factor, mean=tuple(mean), std=tuple(std))


def find_vae(path: str, field: str = "vae", revision: str | None = None) -> StoredVAE:
    """Find the VAE ``path`` names and read its config.json; of a hub id, nothing else is loaded.

    Raises:
        UserError: there is none, it is no AutoencoderKL of RGB images, or has no weights.
    """
    root, local = Path(path), Path(path).exists()
    if local and not root.is_dir():
        raise UserError(f"{field}: {path} is a file; give {ALLOWED}")
    if not local:
        patterns = ["config.json", "vae/config.json"]
        root = from_hub(path, field, ALLOWED, patterns, {"revision": revision})
    folder = root / "vae" if (root / "vae/config.json").exists() else root
    missing = f"{path} holds no VAE (no config.json); give {ALLOWED}"
    settings = read_json(folder / "config.json", field, missing)
    kind = settings.get("_class_name")
    if kind != "AutoencoderKL":
        raise UserError(f"{field}: {path} is {kind or 'no diffusers model'}, not an AutoencoderKL")
    for name in ("in_channels", "out_channels"):
        if settings.get(name, 3) != 3:
            raise UserError(
                f"{field}: {path} is a VAE of images with {settings[name]} channels ({name}); "
                "it must have 3, for red, green and blue"
            )
    if local and not (folder / WEIGHTS).exists() and not (folder / PICKLE).exists():
        raise UserError(f"{field}: {folder} has no weights ({WEIGHTS})")
    try:
        return StoredVAE(folder, own_format(settings))
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{field}: {folder / 'config.json'} is damaged ({error!r})") from None


def resumed_format(run: Path) -> LatentFormat:
    """What a run was trained on; it keeps its VAE in ``run/vae``.

    Raises:
        UserError: the VAE or its statistics are gone or damaged, or do not belong together.
    """
    file, vae = run / "latents.json", run / "vae"
    for path in (file, vae):
        if not path.exists():
            raise UserError(f"vae: {path} is gone, but the run was trained with it")
    try:
        recorded = LatentFormat.model_validate(read_json(file, "vae", f"{file} is missing"))
    except ValidationError as error:
        raise UserError(f"vae: {file} is damaged: {error.errors()[0]['msg']}") from None
    kept = find_vae(str(vae)).format
    if (kept.channels, kept.factor) != (recorded.channels, recorded.factor):
        raise UserError(f"vae: {vae} has {kept}, but the run was trained on {recorded}")
    return recorded

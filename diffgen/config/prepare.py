"""The configuration of ``prepare``."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from diffgen.config.base import Section, Size, indivisible, parse_size
from diffgen.config.data import FolderConfig, ImagesConfig, ShapesConfig
from diffgen.config.hub import HubConfig
from diffgen.config.images import Crop, FittedConfig, StoredImagesConfig
from diffgen.config.sampling import Device, device_problems
from diffgen.config.train import unwritable
from diffgen.config.vae import find_vae
from diffgen.errors import UserError

DECIDING = ("data", "dtype", "longest", "patch_size", "shard_images")
FREE_OF_DATA = ("on_error",)
FREE_OF_FOLDER = ("path", "files")
"""Where the images lie; their names, in their order, decide."""


class EncodingConfig(Section):
    """The autoencoder, and how it encodes."""

    path: str
    """Folder or hub id of a diffusers AutoencoderKL, or of a pipeline that has one in vae/."""
    revision: str | None = None
    """Branch, tag or commit on the hub; none: the newest."""
    batch_size: int = Field(default=16, ge=1)
    """Images encoded at once on each process [images]."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Arithmetic of the encoder; bf16 needs a GPU."""


class PrepareConfig(Section):
    """Encode images once, and keep the posteriors of their latents to train on."""

    out: Path
    """Folder of the latents. Running the same command again goes on, and mends what is damaged."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Seed of the choice that data.crop mixed makes, once for each image."""
    device: Device = "auto"
    """Where to compute; auto: a GPU if there is one."""
    data: ImagesConfig = ShapesConfig()
    """Images to encode. With data.flip mirrored ones are encoded as well."""
    vae: EncodingConfig
    """Autoencoder."""
    dtype: Literal["float16", "float32", "bfloat16"] = "float16"
    """Numbers that are stored."""
    shard_images: int = Field(default=4096, ge=1)
    """Images in a file; a kill costs at most the one each process was working on [images]."""
    patch_size: int = Field(default=2, ge=1)
    """Side of a token of the models to be trained, which sizes must be multiples of [latent
    pixels]."""
    longest: Size | None = None
    """Images that keep their shape are no higher or wider, as position rpe2d may need it; none: no
    bound [image pixels]."""
    workers: int = Field(default=0, ge=0)
    """Processes that read images beside each encoding process [count]."""

    def problems(self) -> Iterator[str]:
        """Yield mistakes across fields and on the disk."""
        data = self.data
        yield from data.problems()
        if isinstance(data, HubConfig) and data.streaming:
            yield (
                "data.streaming: the images of a stream are not counted ahead, so they cannot be "
                "shared out and gone on with; leave it out"
            )
        if self.crop == "random":
            yield (
                "data.crop: random would show the same crop of an image in every epoch; prepare "
                "with center, none or mixed, or train from the images themselves"
            )
        if self.longest is not None and self.crop not in ("none", "mixed"):
            yield f"longest: {self.longest} has no effect with data.crop {self.crop}"
        yield from device_problems(self.device, "vae.precision", self.vae.precision == "bf16")
        yield from unwritable("out", self.out)
        try:
            factor = find_vae(self.vae.path, "vae.path", self.vae.revision).format.factor
        except UserError as error:
            yield str(error)
            return
        yield from indivisible("data.size", data.size, self.patch_size, factor)
        if self.longest is not None and min(parse_size(self.longest)) < factor * self.patch_size:
            yield f"longest: {self.longest} is less than a token of {factor * self.patch_size}"

    @property
    def crop(self) -> Crop:
        """How images are fitted to the size."""
        return self.data.crop if isinstance(self.data, FittedConfig) else "center"

    @property
    def flip(self) -> bool:
        """Mirrored images are encoded too."""
        return isinstance(self.data, StoredImagesConfig) and self.data.flip

    @property
    def skips(self) -> bool:
        """Damaged images are left out."""
        return isinstance(self.data, StoredImagesConfig) and self.data.on_error == "skip"

    def deciding(self) -> dict[str, Any]:
        """The fields that decide what is stored; of the VAE its weights do, not where they lie."""
        values = self.model_dump(mode="json")
        chosen = {name: values[name] for name in DECIDING}
        free = FREE_OF_DATA + (FREE_OF_FOLDER if isinstance(self.data, FolderConfig) else ())
        chosen["data"] = {name: v for name, v in values["data"].items() if name not in free}
        chosen["vae"] = {name: values["vae"][name] for name in ("batch_size", "precision")}
        return chosen | ({"seed": self.seed} if self.crop == "mixed" else {})

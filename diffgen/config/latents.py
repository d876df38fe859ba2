"""Training on latents on disk, as far as that needs no torch."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import Field

from diffgen.config.base import Section
from diffgen.config.images import Crop
from diffgen.config.latent_index import AGAIN, LatentIndex, ShardEntry, read_index
from diffgen.config.subset import SEED_ALONE, Subset
from diffgen.config.vae import VAEConfig
from diffgen.errors import UserError

T = TypeVar("T")


class LatentsConfig(Section):
    """Latents that diffgen prepare wrote: nothing is read, fitted or encoded while training."""

    kind: Literal["latents"] = "latents"
    """Source of the images."""
    path: Path
    """Folder of latents, the --out of diffgen prepare. Needed with kind latents."""
    flip: bool | None = None
    """Mirror half of the training images left to right; none: where they were prepared for it."""
    crop: Crop | None = None
    """How the images were fitted to their size when they were prepared; another way is refused.
    none: it may be any."""
    subset: Subset | None = None
    """Keep the images START:STOP of those there are, counted from 0; either end may be left out."""
    subset_seed: int | None = Field(default=None, ge=0)
    """Take the subset from the images shuffled by this seed; none: from them in their order."""

    @property
    def index(self) -> LatentIndex:
        """What the folder says of itself. Raises UserError: it is not whole."""
        return read_index(self.path)

    @property
    def size(self) -> str:
        """Height x width of a training image, or its largest area [image pixels]."""
        return self.index.size

    @property
    def mixed_sizes(self) -> bool:
        """True where images of a batch may differ in size."""
        return self.index.crop in ("none", "mixed")

    @property
    def flips(self) -> bool:
        """Half of the training images are mirrored."""
        return self.index.flip if self.flip is None else self.flip

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with the folder on this disk; contents are not read."""
        if self.subset is None and self.subset_seed is not None:
            yield SEED_ALONE
        index = self.index  # what is wrong with it stands in its own message
        if self.flip and not index.flip:
            yield (
                f"data.flip: {self.path} holds no mirrored latents; prepare them with --data.flip, "
                "or leave it out"
            )
        if self.crop not in (None, index.crop):
            yield (
                f"data.crop: {self.crop}, but the latents in {self.path} were prepared with "
                f"{index.crop}"
            )
        wrong = [fault for shard in index.shards if (fault := _fault(self.path, shard))]
        if wrong:
            more = f", and {len(wrong) - 1} more such shards" if len(wrong) > 1 else ""
            yield f"data.path: {wrong[0]}{more}; {AGAIN}, it mends the folder"


def idle_options(vae: VAEConfig) -> Iterator[str]:
    """Yield the options of the VAE that do nothing when a model trains on prepared latents."""
    for name in ("statistics_images", "batch_size"):
        given = getattr(vae, name)
        if given != VAEConfig.model_fields[name].default:
            yield f"vae.{name}: {given} has no effect, prepared latents are encoded already"


def pictures_of(data: T, source: str) -> T:
    """``data``, which the model ``source`` was trained on, for a command that needs pictures.

    Raises:
        UserError: they are prepared latents.
    """
    if isinstance(data, LatentsConfig):
        raise UserError(
            f"data.kind: {source} was trained on prepared latents; give the pictures, for example "
            "--data.kind folder --data.path DIR"
        )
    return data


def _fault(folder: Path, shard: ShardEntry) -> str | None:
    """What the size of a shard's file tells."""
    file = folder / shard.file
    try:
        size = file.stat().st_size
    except OSError as error:
        return f"{file} cannot be read ({error.strerror})"
    if size != shard.bytes:
        return f"{file} is damaged ({size:,} bytes instead of {shard.bytes:,})"
    return None

"""Latents on disk: their index, and training on them, as far as that needs no torch."""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from diffgen.config.base import Section, Size
from diffgen.config.images import Crop
from diffgen.config.subset import SEED_ALONE, Subset
from diffgen.config.vae import LatentFormat, standardising
from diffgen.errors import UserError

T = TypeVar("T")
INDEX = "index.json"
SETTINGS = "settings.json"
AGAIN = "run the same diffgen prepare command again"


class ShardEntry(BaseModel):
    """One file of latents, all of one size."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str
    """Below the folder."""
    bytes: int
    sha256: str
    count: int
    """Images in it."""
    height: int
    """Of its latents [latent pixels]."""
    width: int


class PreparedVAE(BaseModel):
    """What the latents were encoded by."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    """As it was given; a copy lies in the folder."""
    revision: str | None
    precision: str
    weights: str
    """Digest of its weights."""
    format: LatentFormat
    """With its own normalisation."""


class Statistics(BaseModel):
    """Of all latents that are stored, one number for each channel."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    mean: tuple[float, ...]
    std: tuple[float, ...]
    """Of samples of the posteriors: their variances and that of their means."""
    mode_std: tuple[float, ...]
    """Of their means alone."""


class LatentIndex(BaseModel):
    """``index.json``, which is written last: with it the folder is whole."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_: Literal["diffgen-latents/1"] = Field(default="diffgen-latents/1", alias="schema")
    vae: PreparedVAE
    statistics: Statistics
    dtype: str
    size: Size
    crop: Crop
    flip: bool
    """A mirrored variant of every image is stored too."""
    class_names: tuple[str, ...]
    count: int
    """Images stored."""
    skipped: dict[int, str]
    """Damaged images that were left out, by their number in the source."""
    shards: tuple[ShardEntry, ...]

    def per_channel(self, sample: bool) -> LatentFormat:
        """What brings samples of the posteriors, or else their modes, to mean 0 and variance 1.

        Raises:
            UserError: a channel is constant.
        """
        found = self.statistics
        std = found.std if sample else found.mode_std
        return standardising(self.vae.format.factor, found.mean, std, self.count)


def read_index(folder: Path) -> LatentIndex:
    """The index of a folder of latents.

    Raises:
        UserError: there is none, the preparation is unfinished, or it is damaged.
    """
    file = folder / INDEX
    try:
        state = file.stat()
    except OSError:
        if not folder.is_dir():
            raise UserError(f"data.path: {folder} is not a folder") from None
        if (folder / SETTINGS).exists():
            raise UserError(
                f"data.path: the latents in {folder} are not finished; {AGAIN}"
            ) from None
        raise UserError(
            f"data.path: {folder} holds no latents (no {INDEX}); diffgen prepare makes them"
        ) from None
    return _parsed(file, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=8)
def _parsed(file: Path, changed: int, size: int) -> LatentIndex:
    """Parsed once as long as it stays as it is; a large set has thousands of shards."""
    try:
        return LatentIndex.model_validate_json(file.read_bytes())
    except (OSError, ValidationError) as error:
        why = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        raise UserError(f"data.path: {file} is damaged ({why}); {AGAIN}") from None


class LatentsConfig(Section):
    """Latents that diffgen prepare wrote: nothing is read, fitted or encoded while training."""

    kind: Literal["latents"] = "latents"
    """Source of the images."""
    path: Path
    """Folder of latents, the --out of diffgen prepare. Needed with kind latents."""
    flip: bool | None = None
    """Mirror half of the training images left to right; none: where they were prepared for it."""
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
    def crop(self) -> Crop:
        """How the images were fitted to the size."""
        return self.index.crop

    @property
    def mixed_sizes(self) -> bool:
        """True where images of a batch may differ in size."""
        return self.crop in ("none", "mixed")

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
        wrong = [fault for shard in index.shards if (fault := _fault(self.path, shard))]
        if wrong:
            more = f", and {len(wrong) - 1} more such shards" if len(wrong) > 1 else ""
            yield f"data.path: {wrong[0]}{more}; {AGAIN}, it mends the folder"


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

"""What a folder of latents says of itself, read without torch."""

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from diffgen.config.base import Size
from diffgen.config.images import Crop
from diffgen.config.vae import LatentFormat, standardising
from diffgen.errors import UserError

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

    @property
    def digest(self) -> str:
        """SHA-256 over the names and hashes of all files: equal for equal latents."""
        text = "".join(f"{shard.file} {shard.sha256}\n" for shard in self.shards)
        return hashlib.sha256(text.encode()).hexdigest()

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

"""Files of latents, each with a note beside it that tells what it must be."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from diffgen.config.latent_index import ShardEntry, Statistics
from diffgen.data.prepared_plan import Shard
from diffgen.files import sha256, write_file, write_json

MOMENTS, LABEL, INDEX, CROP = "moments", "label", "index", "crop"


class Sums(BaseModel):
    """Of the stored posteriors, over images, variants and places, for each channel; fp64."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    count: int
    """Numbers that each sum is of."""
    mean: tuple[float, ...]
    squared_mean: tuple[float, ...]
    variance: tuple[float, ...]


class Note(BaseModel):
    """``shard-00000.json``, written after its shard: that one is finished."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    entry: ShardEntry
    sums: Sums
    skipped: dict[int, str]
    """Damaged images, by their number in the source."""

    @property
    def seal(self) -> str:
        """SHA-256 of what it says, kept with it: a changed digit of a sum would show nowhere."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


class SealedNote(Note):
    """As it lies on the disk."""

    sealed: str


def sums_of(moments: Tensor) -> Sums:
    """Sums over ``moments`` (n, V, 2C, h, w) as they are stored: means, then deviations."""
    mean, variance, square = torch.zeros(3, moments.shape[2] // 2, dtype=torch.float64)
    for one in moments:  # one image at a time: in double precision all would fill the memory
        m, s = one.double().chunk(2, dim=1)
        mean += m.sum(dim=(0, 2, 3))
        square += m.square().sum(dim=(0, 2, 3))
        variance += s.square().sum(dim=(0, 2, 3))
    count = moments.numel() // moments.shape[2]
    return Sums(
        count=count,
        mean=tuple(mean.tolist()),
        squared_mean=tuple(square.tolist()),
        variance=tuple(variance.tolist()),
    )


def statistics_of(sums: Sequence[Sums]) -> Statistics:
    """Mean and standard deviations of all: Var z = E[Var] + Var[mean] of the posteriors.

    ``sums``: of one image at least.
    """
    count = sum(one.count for one in sums)

    def mean_of(name: str) -> Tensor:
        parts = [torch.tensor(getattr(one, name), dtype=torch.float64) for one in sums if one.count]
        return torch.stack(parts).sum(dim=0) / count

    mean = mean_of("mean")
    modes = (mean_of("squared_mean") - mean.square()).clamp(min=0)
    std = (modes + mean_of("variance")).sqrt()
    return Statistics(
        mean=tuple(mean.tolist()), std=tuple(std.tolist()), mode_std=tuple(modes.sqrt().tolist())
    )


def write_shard(
    folder: Path, name: str, tensors: dict[str, Tensor], skipped: dict[int, str]
) -> Note:
    """Write the shard ``name`` into ``folder``, then its note.

    Args:
        tensors: MOMENTS (n, V, 2C, h, w), LABEL and INDEX (n,), CROP (n, V, 4).

    Raises:
        UserError: no space or no permission.
    """
    file, moments = folder / name, tensors[MOMENTS]
    write_file(file, lambda path: save_file(tensors, path))
    entry = ShardEntry(
        file=name,
        bytes=file.stat().st_size,
        sha256=sha256(file),
        count=len(moments),
        height=moments.shape[-2],
        width=moments.shape[-1],
    )
    note = Note(entry=entry, sums=sums_of(moments), skipped=skipped)
    sealed = {**note.model_dump(mode="json"), "sealed": note.seal}
    write_json(note_place(folder, name), sealed)
    return note


def finished(folder: Path, shard: Shard) -> Note | None:
    """The note of a shard that is there as it was written, of the images that are to be in it.

    None: it is to be written (again).
    """
    file = folder / shard.file
    try:
        there = SealedNote.model_validate_json(note_place(folder, shard.file).read_bytes())
        note = Note(entry=there.entry, sums=there.sums, skipped=there.skipped)
        if there.sealed != note.seal or note.entry.file != shard.file:
            return None
        if file.stat().st_size != note.entry.bytes or sha256(file) != note.entry.sha256:
            return None
        with safe_open(file, framework="pt") as stored:
            numbers = [*stored.get_tensor(INDEX).tolist(), *note.skipped]
    except (OSError, SafetensorError, ValidationError):
        return None
    return note if np.array_equal(np.sort(numbers), shard.numbers) else None


def note_place(folder: Path, name: str) -> Path:
    """Where the note of the shard ``name`` lies."""
    return (folder / name).with_suffix(".json")

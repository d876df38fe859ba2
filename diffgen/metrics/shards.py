"""What networks saw in a set of images, in files of a fixed range each, so that a pass goes on.

The folder holds ``00000-00031.safetensors`` and so on. A file is written once, whole or not at
all, and never touched again; which images are in it depends neither on the number of processes
nor on which of them wrote it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from diffgen.errors import UserError
from diffgen.files import write_file

MOST = 256
"""Shards of a set: so many processes have work, and a kill costs one of them each."""


@dataclass(frozen=True)
class Shards:
    """Rows 0 ... count - 1 in files of ``size`` rows each below ``folder``.

    The last may have fewer.
    """

    folder: Path
    count: int
    size: int

    @classmethod
    def of_batches(cls, folder: Path, count: int, batch_size: int) -> "Shards":
        """At most ``MOST`` shards of whole batches, so that no batch depends on the cut."""
        batches = -(-count // batch_size)
        return cls(folder, count, batch_size * max(1, -(-batches // MOST)))

    @property
    def ranges(self) -> list[range]:
        """The rows of every shard."""
        starts = range(0, self.count, self.size)
        return [range(start, min(start + self.size, self.count)) for start in starts]

    def file(self, rows: range) -> Path:
        """Where a shard is."""
        return self.folder / f"{rows.start:08d}-{rows.stop - 1:08d}.safetensors"

    def missing(self) -> list[range]:
        """The shards that are not there, or not whole."""
        return [rows for rows in self.ranges if not _whole(self.file(rows), len(rows))]

    def write(self, rows: range, tensors: dict[str, Tensor]) -> None:
        """Save a shard; every tensor has a row an image, but for those that have none."""
        kept = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
        write_file(self.file(rows), lambda path: save_file(kept, path))

    def load(self, name: str) -> Tensor:
        """All rows of one tensor, in order.

        Raises:
            UserError: a shard is not there or damaged.
        """
        return torch.cat([self._read(rows, name) for rows in self.ranges])

    def parts(self) -> Iterator[dict[str, Tensor]]:
        """One shard after the other, in order; raises as ``load``."""
        for rows in self.ranges:
            with self._explained():
                part = load_file(self.file(rows))
            yield part

    def _read(self, rows: range, name: str) -> Tensor:
        with self._explained(), safe_open(self.file(rows), "pt") as stored:
            return stored.get_tensor(name)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (OSError, SafetensorError) as error:
            raise UserError(
                f"{self.folder}: a part of the features cannot be read ({error}); several "
                "processes need a folder that all of them see"
            ) from None


def _whole(file: Path, rows: int) -> bool:
    try:
        with safe_open(file, "pt") as stored:
            return bool(stored.get_slice("labels").get_shape() == [rows])
    except (OSError, SafetensorError):
        return False

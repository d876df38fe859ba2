"""Images of a source, and the batches they are read in."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

from diffgen.config.hub import HubConfig
from diffgen.data.folder import Folder
from diffgen.data.hub import Hub
from diffgen.data.images import StoredImages
from diffgen.data.listing import damage_lines
from diffgen.data.npz import NpzImages
from diffgen.data.pixels import to_uint8
from diffgen.data.source import ImageSource
from diffgen.metrics.read import Batch


@dataclass(frozen=True)
class Part:
    """Images ``numbers`` of a source."""

    source: ImageSource
    numbers: Sequence[int]
    rejected: tuple[str, ...] = ()
    """A line for each damaged image that others were taken for."""

    def __len__(self) -> int:
        return len(self.numbers)

    @classmethod
    def whole(cls, source: ImageSource) -> "Part":
        """All images in their order."""
        return cls(source, range(len(source)))

    @classmethod
    def mixed(cls, source: ImageSource) -> "Part":
        """All images in a fixed random order: files and arrays may be sorted by class."""
        return cls(source, mixed(len(source)))

    @property
    def class_names(self) -> tuple[str, ...]:
        """As the source has them."""
        return self.source.class_names

    def first(self, count: int) -> "Part":
        """At most ``count`` images."""
        return Part(self.source, self.numbers[:count])

    def sound(self, count: int) -> "Part":
        """At most ``count`` images, under ``on_error: skip`` of those that can be read.

        A training lets another image stand in for a damaged one; here it would count twice.
        """
        source = self.source
        if not isinstance(source, StoredImages) or source.config.on_error == "raise":
            return self.first(count)
        kept: list[int] = []
        rejected = []
        for number in self.numbers:
            if len(kept) == count:
                break
            if (damage := source.damage(number)) is None:
                kept.append(number)
            else:
                rejected.append(damage)
        return Part(source, kept, tuple(rejected))

    @property
    def settings(self) -> dict[str, Any] | None:
        """How stored images were chosen and read; None: the source has no choice."""
        if not isinstance(self.source, StoredImages):
            return None
        config = self.source.config
        paths = [name for name, value in config if isinstance(value, Path)]
        if isinstance(config, HubConfig) and Path(config.name).exists():
            paths.append("name")
        whole = {name: str(Path(getattr(config, name)).resolve()) for name in paths}
        return config.model_dump(mode="json") | whole

    @property
    def left_out(self) -> list[str]:
        """A line for each damaged image of the source that could have been among these."""
        seen_at_once = self.source.skipped if isinstance(self.source, Folder) else {}
        return damage_lines(seen_at_once) + list(self.rejected)

    def batches(self, batches: Sequence[range]) -> Iterator[Batch]:
        """The images at these places, quantised like drawn ones."""
        for places in batches:
            items = [self.source[self.numbers[place]] for place in places]
            pictures = torch.stack([picture for picture, _ in items])
            yield places, to_uint8(pictures), torch.tensor([label for _, label in items])

    def facts(self, size: str) -> dict[str, Any]:
        """All that decides these images, files changed in the meantime too."""
        digest = sha256(json.dumps([list(self.numbers), state(self.source)]).encode())
        return {"size": size, "settings": self.settings, "images": digest.hexdigest()}


def mixed(count: int) -> list[int]:
    """Numbers 0 ... count - 1 in a fixed random order."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(0)).tolist()


def state(source: ImageSource) -> list[Any]:
    """Changes when a stored image does; empty for drawn ones, which never do."""
    match source:
        case Folder():
            files = [Path(file) for file in source.files]
        case NpzImages():
            files = [source.path]
        case Hub():
            return [source.fingerprint]
        case _:
            return []
    return [[str(file), *stamp(file)] for file in files]


def stamp(file: Path) -> tuple[int, int]:
    """Size and time of a file, which tell one that was written anew."""
    found = file.stat()
    return found.st_size, found.st_mtime_ns

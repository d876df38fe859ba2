"""Where an evaluation keeps what it has seen so far: a killed one goes on from there."""

import hashlib
import json
import shutil
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from diffgen.metrics.read import Extractors
from diffgen.metrics.shards import Shards

LIBRARIES = ("diffgen", "torch", "diffusers", "timm", "torch-fidelity")


def versions() -> dict[str, str]:
    """Of the libraries that decide a figure."""
    return {name: version(name) for name in LIBRARIES}


@dataclass(frozen=True)
class Parts:
    """A folder of shards, one sub-folder a set of images and its settings."""

    root: Path
    extractors: Extractors

    def shards(self, name: str, count: int, batch_size: int, facts: dict[str, Any]) -> Shards:
        """The shards of the set ``name``, of which ``facts`` says all that decides its features.

        Other facts mean another folder: what was computed of other images is never taken.
        """
        extractors = [extractor.facts() for extractor in self.extractors.values()]
        whole = [facts, extractors, count, batch_size, versions()]
        digest = hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()
        folder = self.root / f"{name}-{digest[:12]}"
        return Shards.of_batches(folder, count, batch_size)


def remove(*done: Shards) -> None:
    """Forget shards whose figures are saved, and a root without others."""
    for shards in done:
        shutil.rmtree(shards.folder, ignore_errors=True)
        with suppress(OSError):  # others are in it
            shards.folder.parent.rmdir()

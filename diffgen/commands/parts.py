"""Where an evaluation keeps what it has seen so far: a killed one goes on from there."""

import hashlib
import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from diffgen.files import locked
from diffgen.group import Group
from diffgen.metrics.read import Extractors
from diffgen.metrics.shards import Shards

LIBRARIES = (
    *("diffgen", "torch", "torchvision", "diffusers", "timm", "torch-fidelity"),
    *("numpy", "scipy", "pillow"),
)


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
        extractors = {title: extractor.facts() for title, extractor in self.extractors.items()}
        whole = [facts, extractors, count, batch_size, versions()]
        digest = hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()
        folder = self.root / f"{name}-{digest[:12]}"
        return Shards.of_batches(folder, count, batch_size)


@contextmanager
def held(folder: Path, group: Group) -> Iterator[None]:
    """Keep other commands out of ``folder`` while its shards are written and used.

    Afterwards it is gone; a failure or a signal leaves what there is to go on from. All processes
    must use it.

    Raises:
        UserError: another command is in it.
    """
    with ExitStack() as lock:
        with group.together():
            if group.main:
                lock.enter_context(locked(folder))
        done = False
        try:
            yield
            done = True
        finally:
            if group.main:
                if done or next(folder.rglob("*.safetensors"), None) is None:
                    shutil.rmtree(folder, ignore_errors=True)
                else:
                    print(f"{folder} keeps what was seen so far", file=sys.stderr)

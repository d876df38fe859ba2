"""The files of one number of training images, and whether they are of the settings asked for."""

import hashlib
import json
from pathlib import Path
from typing import Any

from diffgen.commands.memorization.images import Parts
from diffgen.config.memorization import WHICH, MemorizationConfig
from diffgen.files import weights_digest
from diffgen.training.run_folder import RunFolder

SCHEMA = "diffgen-memorization/2"


def picture_files(config: MemorizationConfig, count: int) -> tuple[Path, Path]:
    """The pictures of one N: samples, and eigenvectors."""
    return config.out / f"{count}-samples.png", config.out / f"{count}-eigenvectors.png"


def stored_figures(config: MemorizationConfig, count: int) -> dict[str, Any] | None:
    """The figures of one N, whatever their settings; None: there are none that can be read."""
    try:
        found = json.loads((config.out / f"{count}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and found.get("schema") == SCHEMA else None


def why_stale(config: MemorizationConfig, count: int, parts: Parts) -> str | None:
    """Why the figures of one N must be measured (again); None: they are there and hold."""
    found = stored_figures(config, count)
    if found is None:
        return "no figures yet"
    if found["settings"] != config.settings():
        return "figures of other settings"
    digests = parts.digests(config, count)
    if found["images"] != (digests and list(digests)):
        return "figures of other images: the names in the folder have changed"
    for which, weights in zip(WHICH, found["weights"], strict=True):
        folder = RunFolder(config.training(which, count, 0).out).pipeline
        if folder.exists() and weights_digest(folder) != weights:
            return f"figures of other weights than those of {folder.parent}"
    for name, digest in found["pictures"].items():
        if file_digest(config.out / name) != digest:
            return f"{name} is missing, damaged or of other figures"
    return None


def file_digest(path: Path) -> str | None:
    """SHA-256 of a file; None: it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None

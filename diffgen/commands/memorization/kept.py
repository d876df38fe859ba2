"""The files of one number of training images, and whether they are of the settings asked for."""

import json
from pathlib import Path
from typing import Any

from diffgen.commands.cells import readable
from diffgen.config.memorization import MemorizationConfig

SCHEMA = "diffgen-memorization/1"


def files(config: MemorizationConfig, count: int) -> tuple[Path, Path]:
    """The pictures of one N: samples, and eigenvectors."""
    return config.out / f"{count}-samples.png", config.out / f"{count}-eigenvectors.png"


def content(config: MemorizationConfig, count: int) -> dict[str, Any] | None:
    """The figures of one N, whatever their settings; None: there are none that can be read."""
    try:
        found = json.loads((config.out / f"{count}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and found.get("schema") == SCHEMA else None


def up_to_date(config: MemorizationConfig, count: int) -> bool:
    """True where the figures and pictures of one N are there, whole and of these settings."""
    found = content(config, count)
    if found is None or found["settings"] != config.settings():
        return False
    samples, modes = files(config, count)
    return readable(samples) and (found["eigenvalues"] is None or readable(modes))

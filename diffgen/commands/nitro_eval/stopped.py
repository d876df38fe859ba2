"""Trainings that ended before their length: the loss became NaN or infinite."""

from pathlib import Path
from typing import Any

from diffgen.config.stored import read_json
from diffgen.errors import DivergedError
from diffgen.files import write_json
from diffgen.training.checkpoints import Checkpoints, seen_of

FILE = "diverged.json"


def stopped(student: Path) -> dict[str, Any] | None:
    """``images`` of its last good checkpoint and ``message``; None: it did not diverge."""
    file = student / FILE
    return read_json(file, "out", f"{file} is missing") if file.exists() else None


def note(student: Path, error: DivergedError) -> None:
    """Keep that the training of ``student`` ended so.

    Raises:
        DivergedError: it was its regression, so that there is no student at all.
    """
    if not (student / "pipeline").exists():
        raise error
    newest = Checkpoints(student).newest()
    images = 0 if newest is None else seen_of(newest)  # the beginning is scored too
    write_json(student / FILE, {"images": images, "message": str(error)})

"""The checkpoints of a run: written whole, counted, kept, and looked over before one is used.

``checkpoints/images-000012800/`` carries a manifest of its files, so that a damaged one is known.
"""

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from diffgen.errors import UserError
from diffgen.files import set_aside, sha256, write_folder

NAME = re.compile(r"images-(\d+)")
MANIFEST = "manifest.json"
MILESTONE = "milestone"
"""An empty file in a checkpoint that is never dropped."""


class Checkpoints:
    """The checkpoints of one run, newest last.

    Args:
        run: its folder.
        keep: so many of the newest stay, and every milestone.
    """

    def __init__(self, run: Path, keep: int = 1) -> None:
        self.folder = run / "checkpoints"
        self.keep = keep

    def all(self) -> list[Path]:
        """Finished checkpoints, oldest first."""
        if not self.folder.is_dir():
            return []
        found = [path for path in self.folder.iterdir() if NAME.fullmatch(path.name)]
        return sorted(found, key=seen_of)

    def newest(self) -> Path | None:
        """The checkpoint to resume from, if there is one."""
        found = self.all()
        return found[-1] if found else None

    def place(self, seen: int) -> Path:
        """Where the checkpoint after ``seen`` images lies."""
        return self.folder / f"images-{seen:09d}"

    def save(self, seen: int, write: Callable[[Path], Any], milestone: bool = False) -> Path:
        """Write a checkpoint whole, then drop the oldest beyond ``keep``.

        ``milestone``: this one stays for good, whatever is asked of later ones.

        Raises:
            UserError: no space or no permission; the others stay as they were.
        """
        target = self.place(seen)
        self.sweep()

        def whole(folder: Path) -> None:
            write(folder)
            if milestone:
                (folder / MILESTONE).touch()
            (folder / MANIFEST).write_text(json.dumps(manifest(folder), indent=1))

        write_folder(target, whole)
        for old in self.all()[: -self.keep]:
            if not (old / MILESTONE).exists():
                gone = set_aside(old)  # first, so that half of one is never taken for a checkpoint
                os.rename(old, gone)
                shutil.rmtree(gone)
        return target

    def sweep(self) -> None:
        """Remove what a save that was killed has left, written or removed by half."""
        if self.folder.is_dir():
            for left in self.folder.glob(".images-*"):
                shutil.rmtree(left, ignore_errors=True)

    def set_aside_damaged(self, tell: Callable[[str], object]) -> None:
        """Rename newest checkpoints that are damaged, so that the one before them is used.

        Raises:
            UserError: none is whole; all are left as they are.
        """
        found = self.all()
        faults = {}
        for checkpoint in reversed(found):
            fault = damage(checkpoint)
            if fault is None:
                break
            faults[checkpoint] = fault
        if faults and len(faults) == len(found):
            told = "; ".join(f"{path.name}: {fault}" for path, fault in faults.items())
            raise UserError(
                f"out: no checkpoint in {self.folder} is whole ({told}); bring one back, or "
                "choose another --out"
            )
        for checkpoint, fault in faults.items():
            aside = checkpoint.with_name(f"damaged-{checkpoint.name}")
            shutil.rmtree(aside, ignore_errors=True)
            os.rename(checkpoint, aside)
            tell(
                f"{checkpoint} is damaged ({fault}); it is now {aside.name}, the one before is used"
            )


def manifest(folder: Path) -> dict[str, Any]:
    """Bytes and SHA-256 of every file of a checkpoint, by its path in it."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256(path)}
        for path in files
    }


def damage(checkpoint: Path, contents: bool = True) -> str | None:
    """How a checkpoint differs from its manifest; None: it is whole, or as old as to have none.

    ``contents``: compare what the files hold, not only their sizes.
    """
    try:
        if not (checkpoint / MANIFEST).exists():
            return None if any(checkpoint.iterdir()) else "it is empty"
        stated = json.loads((checkpoint / MANIFEST).read_text(encoding="utf-8"))
        for name, facts in stated.items():
            path = checkpoint / name
            if not path.is_file():
                return f"{name} is missing"
            if path.stat().st_size != facts["bytes"]:
                return f"{name} has {path.stat().st_size:,} bytes instead of {facts['bytes']:,}"
            if contents and sha256(path) != facts["sha256"]:
                return f"{name} has other content than was written"
    except OSError as error:
        return f"{error.filename or checkpoint.name} cannot be read: {error.strerror or error}"
    except (ValueError, AttributeError, KeyError, TypeError):
        return f"{MANIFEST} is damaged"
    return None


def seen_of(checkpoint: Path) -> int:
    """Images seen at a checkpoint, from its name."""
    match = NAME.fullmatch(checkpoint.name)
    if match is None:
        raise ValueError(f"{checkpoint} is no checkpoint")
    return int(match[1])

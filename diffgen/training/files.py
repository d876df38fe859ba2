"""Writing files and folders so that a kill leaves the old or the new, never a half."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any


def fsync(path: Path) -> None:
    """Flush a file or a folder's entries to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_folder(target: Path, write: Callable[[Path], object]) -> None:
    """Fill a temporary folder by ``write``, then put it in the place of ``target``."""
    temporary = target.with_name(f".{target.name}.new")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    write(temporary)
    for path in sorted(temporary.rglob("*")):
        fsync(path)
    fsync(temporary)
    old = target.with_name(f".{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        os.rename(target, old)
    os.rename(temporary, target)
    fsync(target.parent)
    shutil.rmtree(old, ignore_errors=True)


def write_file(target: Path, write: Callable[[Path], object]) -> None:
    """Write a temporary file beside ``target`` by ``write``, then put it in its place."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.new{target.suffix}")
    write(temporary)
    fsync(temporary)
    os.replace(temporary, target)


def write_json(target: Path, content: Any) -> None:
    """Write ``content`` as indented JSON, atomically."""
    text = json.dumps(content, indent=2) + "\n"
    write_file(target, lambda path: path.write_text(text, encoding="utf-8"))

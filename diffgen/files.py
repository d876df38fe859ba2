"""Files on the disk: written whole or not at all, kept from other commands, recognised again."""

import hashlib
import json
import os
import shutil
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from diffgen.errors import UserError

try:
    import fcntl
except ImportError:  # not on Windows, where two commands in one folder are not kept apart
    fcntl = None  # type: ignore[assignment]


UMASK = os.umask(0o077)  # it can only be read by setting it, which threads would notice later
os.umask(UMASK)


def fsync(path: Path) -> None:
    """Flush a file or a folder's entries to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _explained(target: Path, temporary: Path) -> Iterator[None]:
    """A full disk or a missing permission becomes a message, and the half-written part goes."""
    try:
        yield
    except BaseException as error:  # a signal too leaves nothing half-written
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
        if not isinstance(error, OSError | RuntimeError | SafetensorError):  # torch: RuntimeError
            raise
        raise UserError(f"{target} cannot be written, what was there is kept: {error}") from error


def write_folder(target: Path, write: Callable[[Path], object]) -> None:
    """Fill a temporary folder by ``write``, then put it in the place of ``target``.

    Raises:
        UserError: no space or no permission; the old folder stays as it was.
    """
    temporary = target.with_name(f".{target.name}.new")
    old = set_aside(target)
    with _explained(target, temporary):
        if old.exists() and not target.exists():  # a kill came between the two renames
            os.rename(old, target)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        write(temporary)
        for path in sorted(temporary.rglob("*")):
            _open_up(path)
            fsync(path)
        fsync(temporary)
        shutil.rmtree(old, ignore_errors=True)
        if target.exists():
            os.rename(target, old)
        try:
            os.rename(temporary, target)
        except BaseException:
            if old.exists():
                os.rename(old, target)
            raise
        fsync(target.parent)
    shutil.rmtree(old, ignore_errors=True)


def set_aside(target: Path) -> Path:
    """Where ``write_folder`` keeps the old ``target`` for the moment of putting the new one in."""
    return target.with_name(f".{target.name}.old")


def write_file(target: Path, write: Callable[[Path], object]) -> None:
    """Write a temporary file beside ``target`` by ``write``, then put it in its place.

    Raises:
        UserError: no space or no permission; the old file stays as it was.
    """
    temporary = target.with_name(f".{target.name}.new{target.suffix}")
    with _explained(target, temporary):
        target.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        _open_up(temporary)
        fsync(temporary)
        os.replace(temporary, target)


def _open_up(file: Path) -> None:
    """Give a new file the mode that others have: safetensors keeps its to the owner."""
    if file.suffix == ".safetensors" and file.stat().st_nlink == 1:  # links are another's files
        file.chmod(0o666 & ~UMASK)


def link_folder(source: Path, target: Path) -> None:
    """Make ``target`` a folder of hard links to the files of ``source``; copies across disks."""

    def link(old: str, new: str) -> None:
        try:
            os.link(os.path.realpath(old), new)  # the hub's snapshots are of symbolic links
        except OSError:  # another disk, or one without links
            shutil.copy2(old, new)

    shutil.copytree(source, target, copy_function=link)


def write_json(target: Path, content: Any) -> None:
    """Write ``content`` as indented JSON, atomically."""
    text = json.dumps(content, indent=2) + "\n"
    write_file(target, lambda path: path.write_text(text, encoding="utf-8"))


_locks: weakref.WeakSet[Any] = weakref.WeakSet()


def _leave_locks() -> None:
    """A forked process holds none: it may outlive a killed command by seconds."""
    for file in list(_locks):
        file.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_locks)


@contextmanager
def locked(folder: Path, name: str = ".lock", wait: bool = False) -> Iterator[None]:
    """Keep a second command on this machine out of ``folder``, which is made.

    Where the file system knows no locks there is none.

    Args:
        folder: what is locked, by the file ``name`` in it, which stays.
        wait: until it is free, instead of refusing.

    Raises:
        UserError: another command is in it, or it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / name).open("a")
    except OSError as error:
        raise UserError(f"out: {folder / name} cannot be written: {error}") from None
    with file:
        _locks.add(file)
        try:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise UserError(f"out: another command is writing to {folder}") from None
        except OSError:
            pass
        yield


def sha256(file: Path) -> str:
    """Of a file's content."""
    digest = hashlib.sha256()
    with file.open("rb") as content:
        while block := content.read(2**22):
            digest.update(block)
    return digest.hexdigest()


def weight_files(folder: Path) -> list[Path]:
    """Everything below ``folder`` that may hold weights, sorted; .bin as old diffusers wrote."""
    return sorted(path for kind in ("*.safetensors", "*.bin") for path in folder.rglob(kind))


def weights_digest(*folders: Path) -> str:
    """SHA-256 over the weight files in ``folders``.

    Raises:
        UserError: there are none, or one cannot be read.
    """
    digest = hashlib.sha256()
    for folder in folders:
        files = weight_files(folder)
        if not files:
            raise UserError(f"source: {folder} holds no weights (*.safetensors)")
        try:
            for path in files:
                with path.open("rb") as file:
                    while block := file.read(2**20):
                        digest.update(block)
        except OSError as error:
            raise UserError(f"source: {folder} cannot be read: {error}") from None
    return digest.hexdigest()

"""Which files of a folder are trained on, in which order and under which class."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from diffgen.config.data import (
    IMAGE_SUFFIXES,
    OTHER_SUFFIXES,
    FolderConfig,
    class_folders,
    image_files,
)
from diffgen.data.scan import damaged_files
from diffgen.data.subset import subset_indices
from diffgen.errors import UserError

SHOWN = 20
"""Lines of a list that a message shows."""


@dataclass(frozen=True)
class Listing:
    """The images of a folder, in order."""

    files: list[Path]
    labels: list[int]
    class_names: tuple[str, ...]
    skipped: dict[Path, str]
    """Damaged files that were left out, and why."""
    empty_classes: tuple[str, ...]
    """Class folders of which no image is left; they are no classes of the training."""
    unread: tuple[str, ...]
    """The suffix of each file of another picture format."""


def list_images(config: FolderConfig, scan: bool = True) -> Listing:
    """Walk the folder, or read the list, choose, and leave out or refuse what is damaged.

    Args:
        scan: look for damage; no: the listing depends on the names alone.

    Raises:
        UserError: no images, images both in class folders and beside them, a class without
            images, a subset out of range, a bad list, or damage under ``on_error: raise``.
    """
    folder = config.path
    files, unread = found_files(config)
    if not files:
        raise UserError(f"{config.files or folder} holds no images")
    if not in_class_folders(files, folder):
        if config.classes:
            raise UserError(f"data.classes: {config.files or folder} names no class folders")
        files, skipped = choose(files, config, scan)
        return Listing(files, [0] * len(files), (folder.absolute().name,), skipped, (), unread)
    wanted = config.classes or known_classes(files, config)
    kept = set(wanted)
    files = [path for path in files if class_of(path, folder) in kept]
    files, skipped = choose(files, config, scan)
    names = [class_of(path, folder) for path in files]
    present = set(names)
    class_names = tuple(name for name in wanted if name in present)
    empty = tuple(name for name in wanted if name not in present)
    if empty and config.classes:
        raise UserError(f"data.classes: no image of {', '.join(empty)} is left to train on")
    numbers = {name: number for number, name in enumerate(class_names)}
    return Listing(files, [numbers[name] for name in names], class_names, skipped, empty, unread)


def found_files(config: FolderConfig) -> tuple[list[Path], tuple[str, ...]]:
    """The images of the list, or of a walk through the folder, and the suffixes of those unread."""
    if config.files:
        return listed_files(config.files, config.path), ()
    every = sorted(image_files(config.path, IMAGE_SUFFIXES | OTHER_SUFFIXES))
    unread = tuple(s for path in every if (s := path.suffix.lower()) in OTHER_SUFFIXES)
    return [path for path in every if path.suffix.lower() in IMAGE_SUFFIXES], unread


def choose(
    files: list[Path], config: FolderConfig, scan: bool
) -> tuple[list[Path], dict[Path, str]]:
    """The files of the subset that look sound, and the damaged ones; all, if there is no ``scan``.

    Raises:
        UserError: a subset out of range, damage under ``on_error: raise``, or nothing left.
    """
    if config.subset is not None:
        files = [files[i] for i in subset_indices(len(files), config.subset, config.subset_seed)]
    damaged = damaged_files(files, config.max_pixels) if scan else {}
    if damaged and config.on_error == "raise":
        raise UserError(refusal(damaged, len(files)))
    sound = [path for path in files if path not in damaged]
    if not sound:
        why = some_lines(damage_lines(damaged))
        raise UserError(f"{config.path} holds no image that can be read\n{why}".rstrip())
    return sound, damaged


def listed_files(text_file: Path, folder: Path) -> list[Path]:
    """The paths of a list, below ``folder`` and in its order; empty lines are passed over.

    Raises:
        UserError: the list cannot be read, or holds a path twice or one that leaves the folder.
    """
    try:
        lines = text_file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"data.files: {text_file} cannot be read: {error}") from None
    first: dict[PurePath, int] = {}
    for number, line in enumerate(lines, start=1):
        path = PurePath(line.strip())
        if not path.parts:
            continue
        if path.is_absolute() or ".." in path.parts:
            raise UserError(f"data.files: {text_file}:{number}: {path} is no path below {folder}")
        if path in first:
            earlier = first[path]
            raise UserError(f"data.files: {text_file}:{number}: {path} is in line {earlier} too")
        first[path] = number
    return [folder / path for path in first]


def known_classes(files: list[Path], config: FolderConfig) -> list[str]:
    """Class folders, with or without images, or those that a list of files names; sorted."""
    if config.files is None:
        return class_folders(config.path)
    return sorted({class_of(path, config.path) for path in files})


def class_of(path: Path, folder: Path) -> str:
    """The folder right below ``folder`` that ``path`` is in."""
    return path.parts[len(folder.parts)]


def in_class_folders(files: list[Path], folder: Path) -> bool:
    """True for images in class folders, False for a flat folder.

    Raises:
        UserError: some are in class folders and some are not.
    """
    loose = next((path for path in files if path.parent == folder), None)
    nested = next((path for path in files if path.parent != folder), None)
    if loose and nested:
        raise UserError(
            f"{folder} holds both class folders ({class_of(nested, folder)}, ...) and loose images "
            f"({loose.name}, ...); put every image in a class folder, or none"
        )
    return nested is not None


def names_digest(files: Sequence[Path], folder: Path) -> str:
    """SHA-256 of the names of ``files`` below ``folder``, in their order; not of their content."""
    names = "\0".join(path.relative_to(folder).as_posix() for path in files)
    return hashlib.sha256(os.fsencode(names)).hexdigest()


def refusal(damaged: dict[Path, str], count: int) -> str:
    """What a run that stops over damaged files says."""
    return (
        f"data: {len(damaged):,} of {count:,} images cannot be read; mend or remove them, or leave "
        "them out with --data.on-error skip (in an evaluation --on-error skip)\n"
        f"{some_lines(damage_lines(damaged))}"
    )


def damage_lines(damaged: dict[Path, str]) -> list[str]:
    """A line for each damaged file."""
    return [f"{path}: {why}" for path, why in damaged.items()]


def some_lines(lines: list[str]) -> str:
    """The first SHOWN of ``lines``, indented, and how many more there are."""
    shown = [f"  {line}" for line in lines[:SHOWN]]
    if len(lines) > SHOWN:
        shown.append(f"  ... and {len(lines) - SHOWN:,} more")
    return "\n".join(shown)

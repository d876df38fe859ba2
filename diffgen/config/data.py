"""Where training and reference images come from."""

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from diffgen.config.base import Section, Size, default_kind, parse_size
from diffgen.config.hub import HubConfig
from diffgen.config.images import FittedConfig, StoredImagesConfig
from diffgen.config.latents import LatentsConfig
from diffgen.config.subset import SEED_ALONE, Subset
from diffgen.errors import UserError

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"}
OTHER_SUFFIXES = {".gif", ".heic", ".heif", ".avif", ".jxl", ".jp2", ".tga", ".psd"}
"""Of pictures that are not read."""


def _too_small(size: Size) -> Iterator[str]:
    if min(parse_size(size)) < 8:
        yield f"data.size: {size} is too small; both sides must be 8 pixels or more"


class ShapesConfig(FittedConfig):
    """Drawn scenes of two objects on a soft gradient, made on the fly at any size.

    For crop none and mixed every scene has a size of its own, of 16x16 to 64x64 pixels in area.
    """

    kind: Literal["shapes"] = "shapes"
    """Source of the images."""
    subset: Subset | None = None
    """Keep the images START:STOP of those there are, counted from 0; either end may be left out."""

    def problems(self) -> Iterator[str]:
        """Yield a size too small to draw at."""
        yield from super().problems()
        yield from _too_small(self.size)
        if self.mixed_sizes and math.prod(parse_size(self.size)) < 16 * 16:
            yield (
                f"data.size: {self.size} is too small for data.crop {self.crop}; its area must be "
                "that of 16x16 pixels or more"
            )


class DigitsConfig(Section):
    """1,797 handwritten digits (UCI), shipped with diffgen."""

    kind: Literal["digits"] = "digits"
    """Source of the images."""
    size: Size = "16x16"
    """Height x width of a training image, or its area where images keep their shape [pixels]."""
    subset: Subset | None = None
    """Keep the images START:STOP of those there are, counted from 0; either end may be left out."""
    subset_seed: int | None = Field(default=None, ge=0)
    """Take the subset from the images shuffled by this seed; none: from them in their order."""
    mixed_sizes: ClassVar[bool] = False

    def problems(self) -> Iterator[str]:
        """Yield a size too small to draw at, and a shuffle that changes nothing."""
        yield from _too_small(self.size)
        if self.subset is None and self.subset_seed is not None:
            yield SEED_ALONE


def _distinct(names: list[str]) -> list[str]:
    if len(set(names)) < len(names):
        raise ValueError("must name every class once")
    return names


class FolderConfig(StoredImagesConfig):
    """A folder of images: one sub-folder per class, or flat (one class)."""

    kind: Literal["folder"] = "folder"
    """Source of the images."""
    path: Path
    """Folder of images: one sub-folder per class, or flat. Needed with kind folder."""
    classes: Annotated[list[str], AfterValidator(_distinct)] = Field(default=[])
    """Class folders to keep, in this order; none given: all, in the order of their names."""
    files: Path | None = None
    """Text file that lists the images, a path relative to the folder on every line, in that
    order; none: every image below the folder, in the order of their names."""
    subset: Subset | None = None
    """Keep the images START:STOP of those there are, counted from 0; either end may be left out."""
    subset_seed: int | None = Field(default=None, ge=0)
    """Take the subset from the images shuffled by this seed; none: from them in their order."""

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with the folder on this disk."""
        yield from super().problems()
        if self.subset is None and self.subset_seed is not None:
            yield SEED_ALONE
        if self.files is not None and not self.files.is_file():
            yield f"data.files: {self.files} is not a file"
        if not self.path.exists():
            yield f"data.path: {self.path} does not exist"
        elif not self.path.is_dir():
            yield f"data.path: {self.path} is not a folder"
        else:
            yield from self._class_problems()
            if self.files is None and next(image_files(self.path), None) is None:
                kinds = ", ".join(sorted(IMAGE_SUFFIXES))
                yield f"data.path: {self.path} holds no images ({kinds})"

    def _class_problems(self) -> Iterator[str]:
        known = class_folders(self.path)
        there = ", ".join(known[:20]) + (", ..." if len(known) > 20 else "") or "none"
        for name in self.classes:
            if name not in known:
                yield f"data.classes: {name!r} is no folder in {self.path}; it has {there}"


def class_folders(folder: Path) -> list[str]:
    """The names a class of ``folder`` may have, sorted."""
    return sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def image_files(folder: Path, suffixes: set[str] = IMAGE_SUFFIXES) -> Iterator[Path]:
    """Every image below ``folder``, links followed, hidden files and folders passed over."""
    for place, folders, files in os.walk(folder, onerror=_unlisted, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if Path(name).suffix.lower() in suffixes and not name.startswith("."):
                yield Path(place) / name


def _unlisted(error: OSError) -> None:
    raise UserError(f"{error.filename} cannot be listed: {error.strerror}")


ImagesConfig = Annotated[
    ShapesConfig | DigitsConfig | FolderConfig | HubConfig,
    Field(discriminator="kind"),
    default_kind("shapes"),
]
DataConfig = Annotated[
    ShapesConfig | DigitsConfig | FolderConfig | HubConfig | LatentsConfig,
    Field(discriminator="kind"),
    default_kind("shapes"),
]

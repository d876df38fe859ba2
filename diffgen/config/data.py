"""Where training and reference images come from."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from diffgen.config.base import Section, Size, default_kind, parse_size

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"}


class _EmbeddedConfig(Section):
    size: Size

    def problems(self) -> Iterator[str]:
        """Yield a size too small to draw at."""
        if min(parse_size(self.size)) < 8:
            yield f"data.size: {self.size} is too small; both sides must be 8 pixels or more"


class ShapesConfig(_EmbeddedConfig):
    """Drawn scenes of two objects on a soft gradient, made on the fly at any size."""

    kind: Literal["shapes"] = "shapes"
    """Source of the images."""
    size: Size = "32x32"
    """Height x width of a training image [pixels]."""


class DigitsConfig(_EmbeddedConfig):
    """1,797 handwritten digits (UCI), shipped with diffgen."""

    kind: Literal["digits"] = "digits"
    """Source of the images."""
    size: Size = "16x16"
    """Height x width of a training image [pixels]."""


class FolderConfig(Section):
    """A folder of images: one sub-folder per class, or flat (one class)."""

    kind: Literal["folder"] = "folder"
    """Source of the images."""
    path: Path
    """Folder of images: one sub-folder per class, or flat. Needed with kind folder."""
    size: Size = "32x32"
    """Height x width of a training image [pixels]."""
    crop: Literal["center", "random"] = "center"
    """Fit an image to the size by ADM's centre crop, or by a random resized crop."""
    crop_scale: float = Field(default=0.6, gt=0, le=1)
    """Smallest share of the image's area a random crop keeps [0 to 1]; only for crop random."""
    flip: bool = True
    """Mirror half of the training images left to right."""

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with the folder on this disk."""
        if not self.path.exists():
            yield f"data.path: {self.path} does not exist"
        elif not self.path.is_dir():
            yield f"data.path: {self.path} is not a folder"
        elif next(image_files(self.path), None) is None:
            kinds = ", ".join(sorted(IMAGE_SUFFIXES))
            yield f"data.path: {self.path} holds no images ({kinds})"


def image_files(folder: Path) -> Iterator[Path]:
    """Every image below ``folder``, links followed, hidden files and folders passed over."""
    for place, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if Path(name).suffix.lower() in IMAGE_SUFFIXES and not name.startswith("."):
                yield Path(place) / name


DataConfig = Annotated[
    ShapesConfig | DigitsConfig | FolderConfig,
    Field(discriminator="kind"),
    default_kind("shapes"),
]

"""A folder of images: one sub-folder per class, or flat with a single class."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from diffgen.config.base import parse_size
from diffgen.config.data import FolderConfig, image_files
from diffgen.data.crops import center_crop, random_resized_crop
from diffgen.data.pixels import from_pil, from_uint8
from diffgen.errors import UserError


class Folder:
    """Images below ``config.path`` in the order of their names.

    With sub-folders that hold images, each is a class and images beside them are refused; a flat
    folder is one class, named after it.

    Raises:
        UserError: no images, or images both in sub-folders and beside them.
    """

    def __init__(self, config: FolderConfig) -> None:
        self.config = config
        self.height, self.width = parse_size(config.size)
        self.files, self.labels, self.class_names = scan(config.path)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """(centre-cropped image (3, H, W) float in [-1, 1], label).

        Raises:
            UserError: the file is no readable image; it is named.
        """
        image = center_crop(open_rgb(self.files[index]), self.height, self.width)
        return from_uint8(from_pil(image)), self.labels[index]

    def augmented(self, index: int, generator: torch.Generator) -> tuple[Tensor, int]:
        """Like ``self[index]``, cropped and mirrored as the configuration says."""
        config = self.config
        if config.crop == "random":
            image = random_resized_crop(
                open_rgb(self.files[index]), self.height, self.width, config.crop_scale, generator
            )
            pixels, label = from_uint8(from_pil(image)), self.labels[index]
        else:
            pixels, label = self[index]
        mirrored = config.flip and bool(torch.rand((), generator=generator) < 0.5)
        return pixels.flip(-1) if mirrored else pixels, label


def scan(folder: Path) -> tuple[list[Path], list[int], tuple[str, ...]]:
    """Files, their labels and the class names of a folder, in a fixed order."""
    files = sorted(image_files(folder))
    if not files:
        raise UserError(f"{folder} holds no images")
    classes = sorted({path.relative_to(folder).parts[0] for path in files if path.parent != folder})
    loose = [path for path in files if path.parent == folder]
    if not classes:
        return files, [0] * len(files), (folder.absolute().name,)
    if loose:
        raise UserError(
            f"{folder} holds both class folders ({classes[0]}, ...) and loose images "
            f"({loose[0].name}, ...); put every image in a class folder, or none"
        )
    labels = [classes.index(path.relative_to(folder).parts[0]) for path in files]
    return files, labels, tuple(classes)


def open_rgb(path: Path) -> Image.Image:
    """An image file as RGB. Raises UserError, naming the file, when it cannot be read."""
    try:
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image)
            if upright.mode == "F":
                raise ValueError(
                    "its pixels are floats of unknown range; save it with 8 or 16 bits"
                )
            if upright.mode.startswith(("I;16", "I")):  # Pillow would clip 16 bits to white
                grey = np.asarray(upright).astype(np.float64) / 65535
                upright = Image.fromarray((grey.clip(0, 1) * 255).round().astype(np.uint8))
            return upright.convert("RGB")
    except (
        *(UnidentifiedImageError, Image.DecompressionBombError),
        *(OSError, SyntaxError, ValueError),
    ) as error:
        raise UserError(f"{path} is not a readable image: {error}") from None

"""From a data configuration to images."""

from typing import Literal, Protocol

from torch import Tensor

from diffgen.config.base import parse_size
from diffgen.config.data import DataConfig, DigitsConfig, FolderConfig, ShapesConfig
from diffgen.data.digits import Digits
from diffgen.data.folder import Folder
from diffgen.data.shapes import Shapes

Split = Literal["train", "held_out"]


class ImageSource(Protocol):
    """A fixed, ordered set of labelled images of one size."""

    @property
    def class_names(self) -> tuple[str, ...]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> tuple[Tensor, int]:
        """(image (3, H, W) fp32 in [-1, 1], label), without augmentation."""


def build_images(config: DataConfig, split: Split = "train") -> ImageSource:
    """The images a configuration names. A folder has no split of its own: it gives all."""
    height, width = parse_size(config.size)
    match config:
        case ShapesConfig():
            return Shapes(height, width, split)
        case DigitsConfig():
            return Digits(height, width, split)
        case FolderConfig():
            return Folder(config)

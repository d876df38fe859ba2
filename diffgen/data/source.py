"""From a data configuration to images."""

from typing import Literal, Protocol, overload, runtime_checkable

import torch
from torch import Tensor

from diffgen.config.base import parse_size
from diffgen.config.data import DataConfig, DigitsConfig, FolderConfig, ShapesConfig
from diffgen.config.hub import HubConfig
from diffgen.config.latents import LatentsConfig
from diffgen.data.digits import Digits, split_indices
from diffgen.data.fit import WHOLE, Limits, Part
from diffgen.data.folder import Folder
from diffgen.data.hub import Hub, HubStream
from diffgen.data.latents import Latents
from diffgen.data.shapes import TRAIN, Shapes
from diffgen.data.subset import kept, subset_indices

Split = Literal["train", "held_out"]


class ImageSource(Protocol):
    """A fixed, ordered set of labelled images of one size."""

    @property
    def class_names(self) -> tuple[str, ...]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> tuple[Tensor, int]:
        """(image (3, H, W) fp32 in [-1, 1], label), without augmentation."""


@runtime_checkable
class Augmented(Protocol):
    """A source whose training images differ from access to access."""

    def augmented(self, index: int, generator: torch.Generator, /) -> tuple[Tensor, int, Part]:
        """(image (3, h, w) fp32 in [-1, 1], label, the part of the picture it shows)."""


@overload
def build_images(
    config: ShapesConfig | DigitsConfig | FolderConfig | LatentsConfig,
    split: Split = "train",
    limits: Limits = WHOLE,
) -> ImageSource: ...
@overload
def build_images(
    config: DataConfig, split: Split = "train", limits: Limits = WHOLE
) -> ImageSource | HubStream: ...
def build_images(
    config: DataConfig, split: Split = "train", limits: Limits = WHOLE
) -> ImageSource | HubStream:
    """The images a configuration names, or the posteriors of their latents.

    Stored images have no split here: they are given whole.

    ``limits``: of images that keep their own shape. Of drawn images the subset is one of the
    training split; those held out are always all there.

    Raises:
        UserError: the subset reaches beyond the images there are, or what stored images refuse.
    """
    height, width = parse_size(config.size)
    match config:
        case ShapesConfig():
            part = kept(len(TRAIN), config.subset) if split == "train" else None
            return Shapes(height, width, split, fitting=config, limits=limits, part=part)
        case DigitsConfig():
            count = len(split_indices("train"))
            chosen = subset_indices(count, config.subset, config.subset_seed)
            return Digits(height, width, split, chosen if split == "train" else None)
        case FolderConfig():
            return Folder(config, limits)
        case HubConfig():
            return HubStream(config, limits) if config.streaming else Hub(config, limits)
        case LatentsConfig():
            return Latents(config, limits)

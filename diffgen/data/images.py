"""Stored images as training images: what a folder and a dataset have in common."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from itertools import chain

import torch
from PIL import Image
from torch import Tensor

from diffgen.config.base import parse_size
from diffgen.config.images import StoredImagesConfig
from diffgen.data.crops import center_crop, resized
from diffgen.data.fit import WHOLE, Limits, Part, fit
from diffgen.data.pixels import from_pil, from_uint8
from diffgen.errors import UserError


class DamagedImage(UserError):
    """An image that cannot be read; under ``on_error: skip`` another stands in for it."""


class StoredImages(ABC):
    """A fixed, ordered set of labelled images that are opened one by one.

    Under ``on_error: skip`` the next image that can be read stands in for a damaged one, with its
    own label: which one it is depends on the images alone, so a resumed run meets the same.
    """

    def __init__(
        self,
        config: StoredImagesConfig,
        labels: Sequence[int],
        class_names: tuple[str, ...],
        limits: Limits = WHOLE,
    ) -> None:
        self.config = config
        self.height, self.width = parse_size(config.size)
        self.limits = limits
        self.labels, self.class_names = labels, class_names
        self.failed: dict[int, str] = {}
        """Images found damaged so far, and what is wrong with them."""

    @abstractmethod
    def open(self, index: int) -> Image.Image:
        """Image ``index`` as RGB, of any size. Raises DamagedImage, naming it."""

    @abstractmethod
    def size(self, index: int) -> tuple[int, int]:
        """(height, width) of ``open(index)`` [pixels], by its header. Raises DamagedImage."""

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """(centre-cropped image (3, H, W) float in [-1, 1], label).

        Raises:
            UserError: the image is damaged; it is named. Under ``skip``: all of them are.
        """
        found, image = self._readable(index)
        return centred(image, self.config), self.labels[found]

    def augmented(self, index: int, generator: torch.Generator) -> tuple[Tensor, int, Part]:
        """Like ``self[index]``, fitted and mirrored as configured, and which part it shows."""
        found, image = self._readable(index)
        pixels, part = fitted(image, self.config, self.limits, generator)
        return pixels, self.labels[found], part

    def damage(self, index: int) -> str | None:
        """What is wrong with image ``index``, which is decoded for that; None: nothing."""
        if index not in self.failed:
            try:
                self.open(index)
            except DamagedImage as error:
                self.failed[index] = str(error)
        return self.failed.get(index)

    def _readable(self, index: int) -> tuple[int, Image.Image]:
        if not 0 <= index < len(self):
            raise IndexError(f"there is no image {index} among {len(self)}")
        in_turn = chain(range(index, len(self)), range(index))
        return first_readable(in_turn, self.open, self.failed, self.config.on_error)


def first_readable(
    indices: Iterable[int],
    open_image: Callable[[int], Image.Image],
    failed: dict[int, str],
    on_error: str,
) -> tuple[int, Image.Image]:
    """The first of ``indices`` whose image can be opened, and the image.

    Damaged ones on the way are noted in ``failed`` and not tried again.

    Raises:
        UserError: an image is damaged and ``on_error`` is raise, or all are.
    """
    for index in indices:
        if index in failed:
            continue
        try:
            return index, open_image(index)
        except DamagedImage as error:
            if on_error == "raise":
                raise DamagedImage(f"{error} (on_error skip passes over such images)") from None
            failed[index] = str(error)
    raise UserError("data: no image is left that can be read")


def centred(image: Image.Image, config: StoredImagesConfig) -> Tensor:
    """An RGB image of any size, centre-cropped: (3, H, W) float in [-1, 1]."""
    return from_uint8(from_pil(center_crop(image, *parse_size(config.size))))


def fitted(
    image: Image.Image, config: StoredImagesConfig, limits: Limits, generator: torch.Generator
) -> tuple[Tensor, Part]:
    """An RGB image as (3, H, W) float in [-1, 1], fitted and mirrored as configured.

    ``limits``: of images that keep their shape.
    """
    target = parse_size(config.size)
    chosen = fit((image.height, image.width), target, config, limits, generator)
    if chosen.box is None:
        cut = center_crop(image, *target)
    else:
        cut = resized(image, *chosen.size, chosen.box)
    pixels = from_uint8(from_pil(cut))
    if config.flip and bool(torch.rand((), generator=generator) < 0.5):
        return pixels.flip(-1), chosen.part.mirrored(pixels.shape[-1])
    return pixels, chosen.part

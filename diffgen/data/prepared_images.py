"""Images as ``prepare`` encodes them: each read once, without another standing in for a damaged."""

import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from diffgen.config.base import parse_size
from diffgen.data.decode import Damaged
from diffgen.data.fit import Part, fit
from diffgen.data.folder import Folder
from diffgen.data.hub import Hub
from diffgen.data.images import DamagedImage, StoredImages, fitted
from diffgen.data.shapes import Shapes
from diffgen.data.shapes_scene import native_size
from diffgen.data.source import ImageSource
from diffgen.errors import UserError
from diffgen.seeding import stream_generator

_THREADS = 16  # the disk is waited for, above all one behind a network
_CHUNK = 256


class Picture(NamedTuple):
    """One image of the source."""

    image: Tensor
    """(3, h, w) fp32 in [-1, 1], not mirrored."""
    label: int
    part: Part
    """Which part of the picture it shows [its own pixels]."""


@dataclass(frozen=True)
class PreparedImages(Dataset[Picture | UserError]):
    """The images of a source, fitted by choices that belong to (seed, image number)."""

    images: ImageSource
    seed: int

    def __getitem__(self, index: int) -> Picture | UserError:
        """Image ``index``, or what stands in its way: raised in a worker, torch would wrap it."""
        try:
            return self.read(index)
        except UserError as error:
            return error

    def read(self, index: int) -> Picture:
        """Image ``index``.

        Raises:
            DamagedImage: it is damaged; it is named.
            UserError: the system does not hand it out, which may pass.
        """
        images, generator = self.images, stream_generator(self.seed, "prepare", index)
        if isinstance(images, StoredImages):
            unmirrored = images.config.model_copy(update={"flip": False})
            with _damage_alone():
                picture = images.open(index)
            image, part = fitted(picture, unmirrored, images.limits, generator)
            return Picture(image, images.labels[index], part)
        if isinstance(images, Shapes):
            return Picture(*images.augmented(index, generator))
        image, label = images[index]
        return Picture(image, label, Part(image.shape[-2], image.shape[-1], 0, 0))

    def size(self, index: int) -> tuple[int, int]:
        """(height, width) of image ``index`` [pixels], without reading it whole.

        Raises:
            DamagedImage: its header tells none.
            UserError: the system does not hand it out, which may pass.
        """
        images, generator = self.images, stream_generator(self.seed, "prepare", index)
        if isinstance(images, StoredImages):
            with _damage_alone():
                picture = images.size(index)
            target = parse_size(images.config.size)
            return fit(picture, target, images.config, images.limits, generator).size
        if isinstance(images, Shapes):
            target, picture = (images.height, images.width), native_size(images.indices[index])
            return fit(picture, target, images.fitting, images.limits, generator).size
        raise TypeError(f"{type(images).__name__} has images of one size")

    def checked(
        self, index: int, answer: Picture | UserError, size: tuple[int, int]
    ) -> Picture | UserError:
        """``answer``, what ``self[index]`` gave, unless its header told another ``size``."""
        if not isinstance(answer, Picture) or answer.image.shape[-2:] == size:
            return answer
        name = f"image {index}"
        if isinstance(self.images, Folder):
            name = str(self.images.files[index])
        elif isinstance(self.images, Hub):
            name = f"row {index} of the dataset"
        told, found = ("{}x{}".format(*sides) for sides in (size, answer.image.shape[-2:]))
        return DamagedImage(f"{name}: its header promises {told} pixels, but it gives {found}")


@contextmanager
def _damage_alone() -> Iterator[None]:
    """Let through damage, but stop where the system does not hand an image out.

    Raises:
        UserError: such an image would be missing for ever over a failure that passes.
    """
    try:
        yield
    except DamagedImage as error:
        cause = error.__context__
        if not isinstance(cause, Damaged) or not cause.refused:
            raise
        raise UserError(
            f"{error}; that may pass, so it is not left out as damaged; run the same command "
            "again when the file is there and can be read"
        ) from None


def image_sizes(
    source: PreparedImages, numbers: range, shown: bool
) -> tuple[NDArray[np.int32], dict[int, str]]:
    """The sizes of the images ``numbers``, (len(numbers), 2) [pixels], and what is damaged.

    A damaged image has the size 0 x 0. ``shown``: with a progress bar.
    """
    damaged: dict[int, str] = {}
    chunks = [numbers[first : first + _CHUNK] for first in range(0, len(numbers), _CHUNK)]

    def look(chunk: Sequence[int]) -> list[tuple[int, int]]:
        found = []
        for number in chunk:
            try:
                found.append(source.size(number))
            except DamagedImage as error:
                damaged[number] = str(error)
                found.append((0, 0))
        return found

    sizes, done = np.zeros((len(numbers), 2), np.int32), 0
    bar = tqdm(total=len(numbers), unit="img", desc="reading sizes", delay=2, disable=not shown)
    Image.init()  # formats registered while threads look at files would be missed by some
    with warnings.catch_warnings(), ThreadPoolExecutor(_THREADS) as pool, bar:
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # max_pixels decides
        for found in pool.map(look, chunks):
            sizes[done : done + len(found)] = found
            done += len(found)
            bar.update(len(found))
    return sizes, dict(sorted(damaged.items()))

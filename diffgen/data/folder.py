"""A folder of images: one sub-folder per class, or flat with a single class."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from diffgen.config.data import FolderConfig
from diffgen.config.images import parse_colour
from diffgen.data.decode import Damaged, decode, upright_size
from diffgen.data.fit import WHOLE, Limits
from diffgen.data.images import DamagedImage, StoredImages
from diffgen.data.listing import list_images


class Folder(StoredImages):
    """Images below ``config.path``, in the order of their names or of ``config.files``.

    With sub-folders that hold images, each is a class and images beside them are refused; a flat
    folder is one class, named after it.

    Args:
        scan: look at all of them first, as ``list_images`` does.

    Raises:
        UserError: what ``list_images`` refuses.
    """

    config: FolderConfig

    def __init__(self, config: FolderConfig, limits: Limits = WHOLE, scan: bool = True) -> None:
        found = list_images(config, scan)
        super().__init__(config, found.labels, found.class_names, limits)
        self.files, self.skipped = found.files, found.skipped
        self.empty_classes, self.unread = found.empty_classes, found.unread
        self._background = parse_colour(config.background)

    def open(self, index: int) -> Image.Image:
        """Image ``index`` as RGB, of any size. Raises DamagedImage, naming it."""
        with self._named(index) as path:
            return decode(path, self._background, self.config.max_pixels)

    def size(self, index: int) -> tuple[int, int]:
        """(height, width) of ``open(index)`` [pixels], by its header. Raises DamagedImage."""
        with self._named(index) as path:
            return upright_size(path, self.config.max_pixels)

    @contextmanager
    def _named(self, index: int) -> Iterator[Path]:
        path = self.files[index]
        try:
            yield path
        except Damaged as damage:
            raise DamagedImage(f"{path} is not a readable image: {damage}") from None

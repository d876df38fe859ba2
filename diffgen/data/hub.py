"""Datasets of the ``datasets`` library: on the disk, or streamed."""

from collections.abc import Iterator
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from diffgen.config.hub import HubConfig
from diffgen.data.blocks import BlockOrder, Blocks
from diffgen.data.columns import choose_columns, labels_of
from diffgen.data.fit import WHOLE, Limits, Part
from diffgen.data.images import StoredImages, centred, first_readable, fitted
from diffgen.data.rows import Row, RowOpener, load, undecoded
from diffgen.errors import UserError

_ROWS_AT_ONCE = 32


class Hub(StoredImages):
    """A dataset on this disk, rows in their order.

    Raises:
        UserError: the dataset or a column of it cannot be had, or a row has no class.
    """

    def __init__(self, config: HubConfig, limits: Limits = WHOLE) -> None:
        rows = load(config)
        columns = choose_columns(rows.features, config)
        super().__init__(config, *labels_of(rows, columns, config.name), limits)
        self._rows = undecoded(rows, columns)
        self._opener = RowOpener(config, columns)

    def open(self, index: int) -> Image.Image:
        """Image ``index`` as RGB, of any size. Raises DamagedImage, naming it."""
        return self._opener.open(self._rows[index], index)

    def size(self, index: int) -> tuple[int, int]:
        """(height, width) of ``open(index)`` [pixels], by its header. Raises DamagedImage."""
        return self._opener.size(self._rows[index], index)

    @property
    def fingerprint(self) -> str:
        """Changes when a file of the dataset does, or its revision; see ``datasets``."""
        return str(self._rows._fingerprint)


class HubStream:
    """A dataset read in order while training, shuffled among ``config.shuffle_buffer`` images.

    Every loading process reads the whole stream and decodes its own share of the images.

    Raises:
        UserError: the dataset or a column of it cannot be had.
    """

    def __init__(self, config: HubConfig, limits: Limits = WHOLE) -> None:
        rows = load(config)
        columns = choose_columns(rows.features, config)
        if columns.label is not None and columns.class_names is None:
            raise UserError(
                f"data.label_column: {columns.label} is of no class type, so its classes are known "
                "only once all rows are read; leave out data.streaming"
            )
        self.config, self.limits = config, limits
        self.class_names = columns.class_names or (Path(config.name).stem,)
        self.failed: dict[int, str] = {}
        """Images found damaged so far, and what is wrong with them."""
        self._rows, self._columns = undecoded(rows, columns), columns
        self._opener = RowOpener(config, columns)
        self._blocks: Blocks[Row] = Blocks(self._rows_from, config.shuffle_buffer)

    def order(self, seed: int) -> BlockOrder:
        """The example of every sample number, to be asked for in rising order."""
        return BlockOrder(self._blocks, seed)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """(centre-cropped image (3, H, W) float in [-1, 1], label) of an example.

        Raises:
            UserError: the image is damaged, or its row has no class. Under ``skip``: all
                images of its block are damaged.
        """
        image, label = self._readable(index)
        return centred(image, self.config), label

    def augmented(self, index: int, generator: torch.Generator) -> tuple[Tensor, int, Part]:
        """Like ``self[index]``, fitted and mirrored as configured, and which part it shows."""
        image, label = self._readable(index)
        pixels, part = fitted(image, self.config, self.limits, generator)
        return pixels, label, part

    def _readable(self, index: int) -> tuple[Image.Image, int]:
        number, offset = divmod(index, self.config.shuffle_buffer)
        block = self._blocks.block(number)
        if offset >= len(block):
            raise IndexError(f"there is no image {index}")
        first, end = index - offset, index - offset + len(block)
        found, image = first_readable(
            [*range(index, end), *range(first, index)],
            lambda i: self._opener.open(block[i - first], i),
            self.failed,
            self.config.on_error,
        )
        label = self._columns.label_of(block[found - first], f"{self.config.name}, row {found}")
        return image, label

    def _rows_from(self, start: int) -> Iterator[Row]:
        try:
            # In batches: single rows would be dealt out among torch's workers.
            for batch in self._rows.skip(start).iter(_ROWS_AT_ONCE):
                for values in zip(*batch.values(), strict=True):
                    yield dict(zip(batch, values, strict=True))
        except (OSError, ValueError) as error:
            raise UserError(f"data.name: {self.config.name} cannot be read on: {error}") from None

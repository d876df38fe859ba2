"""Rows of the ``datasets`` library, their images as they are stored."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tarfile import TarError
from typing import Any

from PIL import Image

from diffgen.config.hub import NEEDS_DATASETS, HubConfig
from diffgen.config.images import parse_colour
from diffgen.data.columns import Columns
from diffgen.data.decode import Damaged, decode, upright_size
from diffgen.data.images import DamagedImage
from diffgen.errors import UserError

Row = dict[str, Any]


def load(config: HubConfig) -> Any:
    """The ``datasets.Dataset``, or ``IterableDataset``, that a configuration names.

    Raises:
        UserError: the library is missing, or the dataset, its split or its files are.
    """
    try:
        import datasets
    except ImportError:
        raise UserError(NEEDS_DATASETS) from None
    options = {"split": config.split, "streaming": config.streaming}
    path = Path(config.name)
    try:
        if path.is_file():
            kind = "webdataset" if path.suffix == ".tar" else "parquet"
            rows = datasets.load_dataset(kind, data_files=str(path.absolute()), **options)
        else:
            name = str(path.absolute()) if path.is_dir() else config.name
            options["revision"] = config.revision
            rows = datasets.load_dataset(name, config.configuration, **options)
    except (OSError, ValueError, TarError, datasets.exceptions.DatasetsError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"data.name: {config.name} cannot be read: {reason}") from None
    if rows.features is None:
        raise UserError(f"data.streaming: the columns of {config.name} are not known ahead")
    return rows


def undecoded(rows: Any, columns: Columns) -> Any:
    """The columns that are used, images as {"bytes", "path"}."""
    import datasets

    used = [name for name in (columns.image, columns.label) if name is not None]
    return rows.select_columns(used).cast_column(columns.image, datasets.Image(decode=False))


@dataclass(frozen=True)
class RowOpener:
    """Opens the image of a row."""

    config: HubConfig
    columns: Columns

    def open(self, row: Row, number: int) -> Image.Image:
        """The image as RGB, of any size.

        Raises:
            DamagedImage: it cannot be read; the row is named.
            UserError: it could not be fetched.
        """
        background = parse_colour(self.config.background)
        with self._named(row, number) as content:
            return decode(content, background, self.config.max_pixels)

    def size(self, row: Row, number: int) -> tuple[int, int]:
        """(height, width) of the opened image [pixels], by its header; raises as ``open`` does."""
        with self._named(row, number) as content:
            return upright_size(content, self.config.max_pixels)

    @contextmanager
    def _named(self, row: Row, number: int) -> Iterator[bytes | Path]:
        try:
            yield self._content(row[self.columns.image])
        except Damaged as damage:
            name = f"{self.config.name}, row {number}"
            raise DamagedImage(f"{name} is not a readable image: {damage}") from None

    def _content(self, stored: dict[str, Any] | None) -> bytes | Path:
        """What a row stores: content, a local path, or one inside an archive or on the hub."""
        content, path = (stored or {}).get("bytes"), (stored or {}).get("path")
        if content is not None:
            return bytes(content)
        if path is None:
            raise Damaged("the row holds no image")
        if "://" not in path:
            return Path(path)
        import fsspec

        try:
            with fsspec.open(path, "rb") as file:
                return bytes(file.read())
        except OSError as error:
            raise UserError(f"data.name: {path} could not be fetched: {error}") from None

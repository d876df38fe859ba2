"""The configuration of ``eval/reference.py``."""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import CliPositionalArg

from diffgen.config.base import Size
from diffgen.config.data import image_files
from diffgen.config.evaluate import DRAWN
from diffgen.config.hub import NEEDS_DATASETS
from diffgen.config.networks import NetworksConfig
from diffgen.config.npz import INCEPTION, inspect_npz
from diffgen.config.pictures import is_npz, own_size
from diffgen.config.sampling import Device, device_problems
from diffgen.config.train import unwritable
from diffgen.errors import UserError


class ReferenceConfig(NetworksConfig):
    """Keep what networks see in real images: a file that evaluations are scored against."""

    source: CliPositionalArg[str]
    """Real images: shapes or digits (their held-out split), a folder, an .npz, or a .parquet file
    or folder of them. Or statistics of another tool: an .npz of mu and sigma, or EDM2's .pkl."""
    out: Path
    """The .npz to write; one that is there is replaced."""
    size: Size | None = None
    """HEIGHTxWIDTH everything is drawn at, or cropped to where a picture differs [pixels]; none:
    as the pictures are. Of another tool's statistics: that of the images they were taken of."""
    num_images: int | None = Field(default=None, ge=2)
    """Images the statistics are taken of, chosen by a fixed seed among stored ones, or the first
    drawn ones [count]; none: all."""
    keep_images: int = Field(default=10_000, ge=0)
    """Of these, images that the file keeps for precision, recall and whatever else needs images,
    as far as there are so many [count]."""
    batch_size: int = Field(default=64, ge=1)
    """Images seen at once on each process [images]."""
    on_error: Literal["raise", "skip"] = "raise"
    """A damaged file in a folder of images stops the command, or is named, counted and left
    out."""
    device: Device = "auto"
    """Where to compute; auto: a GPU if there is one."""

    @property
    def converts(self) -> bool:
        """True for another tool's statistics, which no network sees again.

        Raises:
            UserError: the source is an ``.npz`` that cannot be read.
        """
        if is_npz(self.source):
            return bool(inspect_npz(Path(self.source), "source").statistics)
        return is_pickle(self.source)

    def converted_size(self) -> str | None:
        """HEIGHTxWIDTH of the images behind another tool's statistics; None: not known."""
        return self.size or (own_size(self.source, "source") if is_npz(self.source) else None)

    def picture_size(self) -> str:
        """HEIGHTxWIDTH that images are drawn at or cropped to.

        Raises:
            UserError: no size is given, and the pictures have several or none.
        """
        if self.size is not None:
            return self.size
        if self.source in DRAWN or is_dataset(self.source):
            raise UserError(f"size: {self.source} comes in any size; give --size HEIGHTxWIDTH")
        size = own_size(self.source, "source", self.on_error == "skip")
        if size is None:
            raise UserError(f"source: {self.source} holds no image that can be read")
        return size

    def problems(self) -> Iterator[str]:
        """Yield mistakes that show only beside the source's files and on the disk."""
        wrong = list(self._source_problems())
        yield from wrong
        if not wrong:  # only now its size can be found
            try:
                self.converted_size() if self.converts else self.picture_size()
            except UserError as error:
                yield str(error)
        yield from self.network_problems()
        yield from device_problems(self.device, "device", False)
        if not is_npz(str(self.out)) or self.out.is_dir():
            yield f"out: {self.out} is no name of an .npz file, for example reference.npz"
        elif self.out.exists() and self.out.resolve() == Path(self.source).resolve():
            yield f"out: {self.out} is the source itself"
        yield from unwritable("out", self.out.parent)

    def _source_problems(self) -> Iterator[str]:
        place = Path(self.source)
        if self.source in DRAWN:
            return
        if is_npz(self.source):
            try:
                yield from self._npz_problems()
            except UserError as error:
                yield str(error)
        elif is_pickle(self.source):
            if not place.is_file():
                yield f"source: {place} does not exist or is no file"
            if self.profile != "edm2":
                yield f"profile: {place} must hold statistics of EDM2; give --profile edm2"
            yield from self._conversion_problems()
        elif is_dataset(self.source):
            if find_spec("datasets") is None:
                yield f"source: {place}: {NEEDS_DATASETS}"
        elif not place.is_dir() or next(image_files(place), None) is None:
            yield (
                f"source: {place} is neither shapes, digits, a folder of images, an .npz, .parquet "
                "or .pkl file"
            )

    def _npz_problems(self) -> Iterator[str]:
        found = inspect_npz(Path(self.source), "source")
        if found.header is not None:
            yield f"source: {self.source} is a reference file already"
        elif found.statistics:
            own = "{}x{}".format(*found.size) if found.size else None
            if own and self.size not in (None, own):
                yield f"size: {self.source} holds images at {own}, got {self.size}"
            if self.extractor != INCEPTION:
                yield (
                    f"extractor: mu and sigma in {self.source} belong to Inception's features; "
                    f"give --profile adm or --extractor inception (got {self.extractor})"
                )
            if self.further:
                yield f"further: {self.source} holds statistics of Inception alone"
            yield from self._conversion_problems()

    def _conversion_problems(self) -> Iterator[str]:
        """Yield options that statistics already taken leave no room for."""
        if self.num_images is not None:
            yield f"num_images: {self.source} holds statistics, whose images are chosen already"
        if any(extractor.weights for extractor in self.extractors()):
            yield f"weights: {self.source} does not state those its statistics were taken by"


def is_pickle(place: str) -> bool:
    """True for a path that ends like EDM2's statistics, whether or not it exists."""
    return place.lower().endswith(".pkl")


def is_dataset(place: str) -> bool:
    """True for a ``.parquet`` file, or a folder that holds such files and no images."""
    path = Path(place)
    if path.is_dir():
        return next(path.rglob("*.parquet"), None) is not None and not any(image_files(path))
    return place.lower().endswith(".parquet")

"""What is measured beside a training: the loss on held-out images, and FID."""

from collections.abc import Iterator
from pathlib import Path

from pydantic import Field

from diffgen.config.base import Section
from diffgen.config.data import DataConfig, FolderConfig, class_folders, image_files
from diffgen.config.extractor import ExtractorConfig
from diffgen.config.hub import HubConfig
from diffgen.config.images import FittedConfig
from diffgen.config.latents import LatentsConfig
from diffgen.config.networks import NetworksConfig, extractor_problems
from diffgen.config.npz import inspect_npz
from diffgen.config.pictures import is_npz
from diffgen.config.reference_files import statistics_problems
from diffgen.errors import UserError

DRAWN = ("shapes", "digits")
"""Data that have held-out images of their own."""
WHERE = {
    "folder": "a folder of pictures that are not trained on",
    "hub": "another split of the dataset, such as validation",
    "latents": "another folder of prepared latents",
}
"""What ``data`` is for the other kinds."""


class ValidationConfig(Section):
    """Measures of the averaged weights while they are trained; they change no weight."""

    every_images: int = Field(default=0, ge=0)
    """Measure the loss on held-out images this often; 0: never [images seen]."""
    images: int = Field(default=512, ge=1)
    """Held-out images the loss is measured on, at most all there are [count]."""
    bins: int = Field(default=10, ge=1)
    """Equal parts of the noise levels 0 to 1 whose losses are told apart [count]."""
    data: str | None = None
    """Held-out images: with data.kind folder another folder, read like the one trained on and with
    the same class folders; hub: a split of the same dataset; latents: another prepared folder.
    none: those that shapes and digits hold out."""
    fid_every_images: int = Field(default=0, ge=0)
    """Measure FID this often; 0: never [images seen]."""
    fid_images: int = Field(default=512, ge=8)
    """Images drawn for FID, as sampling says, the classes in turn [count]."""
    fid_extractor: ExtractorConfig = ExtractorConfig(name="reader")
    """Network whose features FID compares."""
    reference: str | None = None
    """What FID compares with, as --reference of eval/evaluate.py: shapes, digits, a folder, or an
    .npz of images or of statistics; none: the held-out images."""

    def misfits(self, data: DataConfig) -> Iterator[str]:
        """Yield what is missing or wrong beside the training's ``data`` and on the disk."""
        kind: str = data.kind
        if self.data is not None:
            wrong = list(self._data_problems(data))
            yield from wrong
            if not wrong and not (self.every_images or self.fid_every_images):
                yield (
                    "validation.data: nothing is measured on it without validation.every_images "
                    "or validation.fid_every_images"
                )
        elif self.every_images and kind not in DRAWN:
            yield f"validation.data: {kind} holds no images out; give {WHERE[kind]}"
        if self.every_images and self.bins > self.images:
            yield (
                f"validation.bins: {self.bins}, but validation.images {self.images} leaves some of "
                "them without an image"
            )
        if self.fid_every_images:
            yield from self._fid_problems(kind)

    def pictures(self, data: DataConfig) -> str | None:
        """Held-out pictures to score against, as an evaluation names them; None: none are given."""
        return self.reference or (self.data if isinstance(data, FolderConfig) else None)

    def held_out(self, data: DataConfig) -> DataConfig:
        """Where the held-out images come from: read like ``data``, but whole and not augmented.

        Of a folder those classes are kept that the training keeps.
        """
        still: dict[str, object] = {}
        if isinstance(data, FittedConfig):
            still["crop"] = "none" if data.mixed_sizes else "center"
        match data:
            case FolderConfig() if self.data is not None:
                there = class_folders(Path(self.data))
                still |= {
                    "path": Path(self.data),
                    "classes": [name for name in data.classes if name in there],
                    **{"flip": False, "files": None, "subset": None, "subset_seed": None},
                }
            case HubConfig() if self.data is not None:
                still |= {"split": self.data, "streaming": False, "flip": False}
            case LatentsConfig() if self.data is not None:
                whole = {"flip": False, "subset": None, "subset_seed": None}
                still |= {"path": Path(self.data), **whole}
        return data.model_copy(update=still)

    def _data_problems(self, data: DataConfig) -> Iterator[str]:
        assert self.data is not None
        if data.kind in DRAWN:
            yield f"validation.data: {self.data}, but {data.kind} holds images of its own out"
        elif isinstance(data, HubConfig):
            if self.data == data.split:
                yield f"validation.data: {self.data} is the split that is trained on"
        elif not Path(self.data).is_dir():
            yield f"validation.data: {self.data} is no folder"
        elif isinstance(data, LatentsConfig):
            yield from self._latents_problems(data)
        elif isinstance(data, FolderConfig):
            yield from self._folder_problems(data)

    def _latents_problems(self, data: LatentsConfig) -> Iterator[str]:
        other = self.held_out(data)
        assert isinstance(other, LatentsConfig)  # it is of the kind of ``data``
        if other.path.resolve() == data.path.resolve():
            yield f"validation.data: {other.path} is trained on; take latents that are not"
        try:
            for problem in other.problems():
                yield problem.replace("data.path", "validation.data", 1)
            mine, theirs = other.index, data.index
        except UserError as error:
            yield str(error).replace("data.path", "validation.data", 1)
            return
        if mine.vae.weights != theirs.vae.weights:
            yield (
                f"validation.data: {other.path} was prepared with another VAE "
                f"({mine.vae.path}) than {data.path} ({theirs.vae.path})"
            )
        if (mine.size, mine.crop) != (theirs.size, theirs.crop):
            yield (
                f"validation.data: {other.path} was prepared at {mine.size}, crop {mine.crop}, "
                f"but {data.path} at {theirs.size}, crop {theirs.crop}"
            )

    def _folder_problems(self, data: FolderConfig) -> Iterator[str]:
        folder = Path(str(self.data))
        if next(image_files(folder), None) is None:
            yield f"validation.data: {folder} holds no images"
            return
        if folder.resolve().is_relative_to(data.path.resolve()):
            yield f"validation.data: {folder} is trained on; take pictures that are not"
        if not data.path.is_dir():
            return  # its own complaint
        known = data.classes or class_folders(data.path)
        there = [n for n in class_folders(folder) if next(image_files(folder / n), None)]
        if data.classes and not set(known) & set(there):
            yield f"validation.data: {folder} has none of data.classes {', '.join(known)}"
        unknown = [] if data.classes or not known else [n for n in there if n not in known]
        if unknown:
            yield (
                f"validation.data: {folder} has the class {unknown[0]!r}, which {data.path} has "
                f"not; known are {', '.join(known[:20])}{', ...' if len(known) > 20 else ''}"
            )

    def _fid_problems(self, kind: str) -> Iterator[str]:
        extractor = self.fid_extractor
        for problem in extractor_problems(extractor):
            yield f"validation.fid_extractor.{problem}"
        place = self.reference
        if place is None:
            if kind == "latents":
                yield "validation.reference: latents are no pictures; give a folder or an .npz"
            elif kind not in DRAWN and self.data is None:
                yield (
                    f"validation.reference: {kind} holds no images out; give a folder or an .npz, "
                    f"or as validation.data {WHERE[kind]}"
                )
        elif is_npz(place):
            try:
                found = inspect_npz(Path(place), "reference")
                for problem in statistics_problems(place, found, as_networks(extractor)):
                    yield f"validation.{_own_options(problem)}"
            except UserError as error:
                yield f"validation.{error}"
        elif place not in DRAWN:
            if not Path(place).is_dir():
                yield (
                    f"validation.reference: {place} is neither shapes, digits nor a folder or "
                    ".npz of images"
                )
            elif next(image_files(Path(place)), None) is None:
                yield f"validation.reference: {place} holds no images"


def as_networks(extractor: ExtractorConfig) -> NetworksConfig:
    """The one network, as an evaluation is given it."""
    return NetworksConfig(
        extractor=extractor.name,
        weights=extractor.weights,
        resize=extractor.resize,
        image_size=extractor.image_size,
    )


def _own_options(problem: str) -> str:
    """A complaint of an evaluation, with the option that a training has."""
    return problem.replace("give --extractor ", "give --validation.fid-extractor.name ")

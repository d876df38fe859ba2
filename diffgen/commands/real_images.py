"""What a set of images is scored against, and the batches it is read in."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from diffgen.config.data import DigitsConfig, FolderConfig, ShapesConfig
from diffgen.config.evaluate import EvaluateConfig
from diffgen.config.hub import HubConfig
from diffgen.config.npz import inspect_npz
from diffgen.config.pictures import is_npz
from diffgen.data.folder import Folder
from diffgen.data.images import StoredImages
from diffgen.data.listing import damage_lines
from diffgen.data.npz import NpzImages, open_array
from diffgen.data.pixels import to_uint8
from diffgen.data.source import ImageSource, build_images
from diffgen.errors import UserError
from diffgen.group import Group, cut
from diffgen.metrics.frechet import Moments
from diffgen.metrics.read import Batch


@dataclass(frozen=True)
class Part:
    """Images ``numbers`` of a source."""

    source: ImageSource
    numbers: Sequence[int]
    rejected: tuple[str, ...] = ()
    """A line for each damaged image that others were taken for."""

    def __len__(self) -> int:
        return len(self.numbers)

    @classmethod
    def mixed(cls, source: ImageSource) -> "Part":
        """All images in a fixed random order: files and arrays may be sorted by class."""
        generator = torch.Generator().manual_seed(0)
        return cls(source, torch.randperm(len(source), generator=generator).tolist())

    @property
    def class_names(self) -> tuple[str, ...]:
        """As the source has them."""
        return self.source.class_names

    def first(self, count: int) -> "Part":
        """At most ``count`` images."""
        return Part(self.source, self.numbers[:count])

    def sound(self, count: int) -> "Part":
        """At most ``count`` images, under ``on_error: skip`` of those that can be read.

        A training lets another image stand in for a damaged one; here it would count twice.
        """
        source = self.source
        if not isinstance(source, StoredImages) or source.config.on_error == "raise":
            return self.first(count)
        kept: list[int] = []
        rejected = []
        for number in self.numbers:
            if len(kept) == count:
                break
            if (damage := source.damage(number)) is None:
                kept.append(number)
            else:
                rejected.append(damage)
        return Part(source, kept, tuple(rejected))

    @property
    def settings(self) -> dict[str, Any] | None:
        """How stored images were chosen and read; None: the source has no choice."""
        if not isinstance(self.source, StoredImages):
            return None
        config = self.source.config
        paths = [name for name, value in config if isinstance(value, Path)]
        if isinstance(config, HubConfig) and Path(config.name).exists():
            paths.append("name")
        whole = {name: str(Path(getattr(config, name)).resolve()) for name in paths}
        return config.model_dump(mode="json") | whole

    @property
    def left_out(self) -> list[str]:
        """A line for each damaged image of the source that could have been among these."""
        seen_at_once = self.source.skipped if isinstance(self.source, Folder) else {}
        return damage_lines(seen_at_once) + list(self.rejected)

    def batches(self, batch_size: int, group: Group) -> Iterator[Batch]:
        """This process's batches, quantised like drawn ones."""
        mine = group.deal(cut(len(self), batch_size))
        total, hidden = sum(map(len, mine)), not group.main
        with tqdm(total=total, unit="img", desc="reading", leave=False, disable=hidden) as bar:
            for places in mine:
                items = [self.source[self.numbers[place]] for place in places]
                pictures = torch.stack([picture for picture, _ in items])
                yield places, to_uint8(pictures), torch.tensor([label for _, label in items])
                bar.update(len(items))


@dataclass(frozen=True)
class Reference:
    """Real images, or their moments, and a second real set, disjoint from it, for the floor."""

    images: Part | None
    """None: there are only moments."""
    other: Part | None
    """None: no floor."""
    stored: Moments | None
    """Of Inception's features over a whole data set, as ADM's reference files hold them."""

    @property
    def left_out(self) -> list[str]:
        """A line for each damaged image."""
        lines = self.images.left_out if self.images else []
        return lines + list(self.other.rejected if self.other else ())


def open_reference(
    config: EvaluateConfig, size: str, given: StoredImages | None = None
) -> Reference:
    """Up to ``num_images`` reference images and, for the floor, as many others.

    shapes: two disjoint parts of the held-out range. digits: the held-out split, and training
    digits. A folder or an ``.npz``: two halves, drawn by a fixed seed. Images ``given`` stand for
    ``config.reference``, in halves too.

    Raises:
        UserError: there are too few images, or the files cannot be read.
    """
    count, path = config.num_images, Path(config.reference)
    stored = None
    match config.reference:
        case _ if given is not None:
            images, other = halves(given, config)
        case "shapes":
            held_out = build_images(ShapesConfig(size=size), "held_out")
            sets = 2 if config.floor else 1
            if sets * count > len(held_out):
                raise UserError(f"num_images: at most {len(held_out) // sets} for shapes")
            images, other = Part(held_out, range(count)), Part(held_out, range(count, 2 * count))
        case "digits":
            held_out = build_images(DigitsConfig(size=size), "held_out")
            trained = build_images(DigitsConfig(size=size), "train")
            images = Part(held_out, range(min(count, len(held_out))))
            other = Part(trained, range(min(count, len(trained))))
        case _ if is_npz(config.reference):
            found = inspect_npz(path, "reference")
            if found.num_features is not None and config.extractor == "inception":
                stored = stored_moments(path)
            if not found.count:
                return Reference(None, None, stored)
            images, other = halves(NpzImages(path, size), config)
        case _:
            folder = FolderConfig(path=path, size=size, on_error=config.on_error)
            images, other = halves(build_images(folder), config)
    check_counts(config, images, other if config.floor else None)
    return Reference(images, other if config.floor else None, stored)


def halves(source: ImageSource, config: EvaluateConfig) -> tuple[Part, Part]:
    """Reference and floor, disjoint; without a floor the reference may have every image."""
    every = Part.mixed(source)
    cut = len(every) // 2 if config.floor else len(every)
    first, second = Part(source, every.numbers[:cut]), Part(source, every.numbers[cut:])
    return first.sound(config.num_images), second.sound(config.num_images)


def check_counts(config: EvaluateConfig, images: Part, other: Part | None) -> None:
    """Raise UserError where precision and recall have too few images."""
    counts = [len(part) for part in (images, other) if part is not None]
    if min(counts) <= config.k:
        found = ", and for the floor ".join(str(count) for count in counts)
        raise UserError(
            f"reference: {config.reference} has too few images for k = {config.k}: {found}"
        )


def stored_moments(path: Path) -> Moments:
    """``mu`` and ``sigma`` of an ``.npz``.

    Raises:
        UserError: they hold NaN, or sigma is no covariance.
    """
    mean, cov = (
        torch.from_numpy(np.array(open_array(path, name), np.float64)) for name in ("mu", "sigma")
    )
    try:
        found = Moments(None, mean, cov)
    except ValueError as error:
        raise UserError(f"reference: mu and sigma in {path}: {error}") from None
    if not torch.allclose(cov, cov.T, rtol=1e-5, atol=1e-8) or bool((cov.diagonal() < 0).any()):
        raise UserError(f"reference: sigma in {path} is no covariance (symmetric, diagonal >= 0)")
    return found

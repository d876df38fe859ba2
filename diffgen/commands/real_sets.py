"""What a set of images is scored against: real images, or what a reference file holds of them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from diffgen.commands.real_images import Part
from diffgen.config.data import DigitsConfig, FolderConfig, ShapesConfig
from diffgen.config.evaluate import EvaluateConfig
from diffgen.config.npz import NpzFile, inspect_npz
from diffgen.config.pictures import is_npz
from diffgen.config.reference_files import file_size_problems, options
from diffgen.data.images import StoredImages
from diffgen.data.npz import NpzImages
from diffgen.data.source import ImageSource, build_images
from diffgen.errors import UserError
from diffgen.metrics.extractor import Extractor
from diffgen.metrics.moments import Moments
from diffgen.metrics.read import Extractors
from diffgen.metrics.stored import StoredSet, read_stored


@dataclass(frozen=True)
class Reference:
    """Real images, or their moments, and a second real set, disjoint from it, for the floor."""

    images: Part | None
    """None: there are only moments."""
    other: Part | None
    """None: no floor."""
    stored: Mapping[str, StoredSet] = field(default_factory=dict)
    """Of whole data sets, as reference files hold them, by title."""
    file: NpzFile | None = None
    """None: it is no ``.npz``."""

    @property
    def left_out(self) -> list[str]:
        """A line for each damaged image."""
        lines = self.images.left_out if self.images else []
        return lines + list(self.other.rejected if self.other else ())

    @property
    def header(self) -> Mapping[str, Any] | None:
        """What a file of ``eval/reference.py`` says of itself."""
        return self.file.header if self.file else None

    def fitting(self, extractor: Extractor) -> StoredSet | None:
        """The statistics that ``extractor`` may be compared with; None: there are none."""
        return next((found for found in self.stored.values() if found.fits(extractor)), None)

    def moments(self, extractor: Extractor, layer: str) -> Moments | None:
        """Those of a layer; None: there are none."""
        found = self.fitting(extractor)
        return found.moments.get(layer) if found else None

    def notes(self, extractor: Extractor) -> list[str]:
        """What the Fréchet distances are to, where that is a file's to say."""
        if self.file is None:
            return []
        found = self.fitting(extractor)
        if found is None:
            held = "the reference file holds no statistics of a whole set for this network"
            return [f"FID: against {len(self.images):,} images; {held}"] if self.images else []
        count = found.moments["features"].count
        many = "an unstated number of" if count is None else f"{count:,}"
        against = f"FID: against stored statistics of {many} images"
        if found.facts is None:
            how = "taken for ADM's (tf1_bilinear), as the file states neither weights nor resize"
            return [f"{against}, {how}"]
        if found.facts.get("weights_sha256") is None:
            how = "weights are not stated, network and resize only by who converted the file"
            return [f"{against} by another tool; {how}"]
        return [against]

    def check(self, config: EvaluateConfig, extractors: Extractors) -> None:
        """Raise UserError where a reference file's statistics are of something else.

        A further network that it has no statistics of is scored against the images it keeps; the
        headline is not, since these are few of those the file stands for.
        """
        stated = [found.facts for found in self.stored.values() if found.facts is not None]
        for number, (title, extractor) in enumerate(extractors.items()):
            same = [facts for facts in stated if facts.get("name") == extractor.name]
            if stated and (same or number == 0) and self.fitting(extractor) is None:
                named = options(config, config.extractors()[number])
                raise UserError(
                    f"reference: {config.reference} holds statistics of {told(same or stated)}; "
                    f"this evaluation sees its images through {told([extractor.facts()])}. "
                    f"eval/reference.py IMAGES {named} --out FILE.npz makes one that fits, of the "
                    "images it was made of"
                )
            if number == 0 and self.images is None and self.fitting(extractor) is None:
                raise UserError(
                    f"reference: {config.reference} holds statistics of inception by tf1_bilinear "
                    f"and no images; this evaluation sees its images through "
                    f"{told([extractor.facts()])}"
                )
            for layer, width in extractor.layers.items():
                moments = self.moments(extractor, layer)
                if moments is not None and len(moments.mean) != width:
                    raise UserError(
                        f"reference: {config.reference} holds mu and sigma of "
                        f"{len(moments.mean)} {layer}, but {title} has {width}"
                    )


def told(networks: Iterable[Mapping[str, Any]]) -> str:
    """Networks, of which these are the facts, with what tells them apart."""
    return "; ".join(
        f"{facts.get('name')} ({facts.get('preprocessing')}, weights "
        f"{(facts.get('weights_sha256') or 'not stated')[:12]})"
        for facts in networks
    )


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
    other: Part | None
    stored: dict[str, StoredSet] = {}
    found: NpzFile | None = None
    match config.reference:
        case _ if given is not None:
            images, other = halves(given, config, config.floor)
        case "shapes":
            held_out = build_images(ShapesConfig(size=size), "held_out")
            sets = 2 if config.floor else 1
            if sets * count > len(held_out):
                raise UserError(f"num_images: at most {len(held_out) // sets} for shapes")
            images = Part(held_out, range(count))
            other = Part(held_out, range(count, 2 * count)) if config.floor else None
        case "digits":
            held_out = build_images(DigitsConfig(size=size), "held_out")
            trained = build_images(DigitsConfig(size=size), "train")
            images = Part(held_out, range(min(count, len(held_out))))
            other = Part(trained, range(min(count, len(trained)))) if config.floor else None
        case _ if is_npz(config.reference):
            found = inspect_npz(path, "reference")
            stored = read_stored(path, found)
            for problem in file_size_problems(config.reference, found, size):
                raise UserError(problem)
            if not found.count:
                return Reference(None, None, stored, found)
            # Stored statistics are of all the images, so these leave none for a floor.
            floor = config.floor and not stored
            images, other = halves(NpzImages(path, size), config, floor)
        case _:
            folder = FolderConfig(path=path, size=size, on_error=config.on_error)
            images, other = halves(build_images(folder), config, config.floor)
    check_counts(config, images, other)
    return Reference(images, other, stored, found)


def halves(source: ImageSource, config: EvaluateConfig, floor: bool) -> tuple[Part, Part | None]:
    """Reference and floor, disjoint; without a floor the reference has every image."""
    every = Part.mixed(source)
    if not floor:
        return every.sound(len(every)), None
    cut, most = len(every) // 2, config.num_images
    first, second = Part(source, every.numbers[:cut]), Part(source, every.numbers[cut:])
    return first.sound(most), second.sound(most)


def check_counts(config: EvaluateConfig, images: Part, other: Part | None) -> None:
    """Raise UserError where precision and recall have too few images."""
    counts = [len(part) for part in (images, other) if part is not None]
    if min(counts) <= config.k:
        found = ", and for the floor ".join(str(count) for count in counts)
        raise UserError(
            f"reference: {config.reference} has too few images for k = {config.k}: {found}"
        )

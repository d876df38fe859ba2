"""``eval``: score a model, a folder of images or an ``.npz`` against held-out real images."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from diffgen.commands.left_out import tell_not_scored
from diffgen.commands.load import load_together
from diffgen.commands.real_images import Part, Reference, open_reference
from diffgen.commands.saved_scores import places, save
from diffgen.config.base import parse_size
from diffgen.config.data import FolderConfig
from diffgen.config.evaluate import DRAWN, EvaluateConfig
from diffgen.config.pictures import is_image_folder, is_npz
from diffgen.config.source import Source
from diffgen.data.images import StoredImages
from diffgen.data.npz import NpzImages
from diffgen.data.pixels import QUANTISATION
from diffgen.data.source import build_images
from diffgen.device import chosen_device, on_cpu
from diffgen.errors import UserError
from diffgen.group import Group, cut
from diffgen.metrics.extractor import Extractor, load_extractor
from diffgen.metrics.read import Batch, Reading, read
from diffgen.metrics.report import compare, conventions, missing, table
from diffgen.pipeline import DiffGenPipeline
from diffgen.sampling.batches import draw_batches, labels_in_turn

IN_TURN = "the classes in turn"
AS_REFERENCE = "as in the reference: image k has the class of its picture k"
AS_STORED = "as in the source"
LIBRARIES = ("diffgen", "torch", "diffusers", "timm", "torch-fidelity")


@dataclass(frozen=True)
class Readings:
    """Everything one evaluation compares."""

    images: Reading
    reference: Reading | None
    floor: Reading | None
    labels: str
    """Where the labels of ``images`` come from."""
    weights: str | None = None
    """Digest of the model's weights; None: the images were not drawn."""
    left_out: tuple[str, ...] = ()
    """Damaged files of the source, a line each."""


def evaluate(
    config: EvaluateConfig, group: Group | None = None, real: StoredImages | None = None
) -> None:
    """Draw or read the images, score them, print a table and save the figures as JSON.

    Args:
        config: what to score, against what, and how.
        group: this process's part; None: dealt out among the processes of this launch, which
            must then all call this. The main one prints and writes.
        real: images that ``config.reference`` names, already opened; None: it is opened here.

    Raises:
        UserError: anything a user can mend; see its message.
    """
    group = group or Group.join(cpu=on_cpu(config.device))
    scored = score(config, group, real)
    if group.main:
        print(scored.text)
        target = save(scored.content, config.out, config.target(scored.content["size"]))
        print(f"saved as {target}")
    group.leave()


class Scored(NamedTuple):
    """The outcome of an evaluation."""

    content: dict[str, Any]
    """Figures and settings, as JSON holds them."""
    text: str
    """A table of the figures."""


def score(
    config: EvaluateConfig,
    group: Group,
    real: StoredImages | None = None,
    show: Callable[[Batch], object] | None = None,
) -> Scored:
    """What ``evaluate`` finds; every process of ``group`` must call it.

    ``show`` is called with this process's batches of images drawn from a model.

    Raises:
        UserError: anything a user can mend; see its message.
    """
    with group.together():
        device = chosen_device(config.device, "dtype" if config.dtype == "bf16" else None)
        size = config.picture_size()
        reference = open_reference(config, size, real)
        if group.main:
            tell_not_scored("reference", reference.left_out)
    with group.together(), group.main_first():
        extractor = load_extractor(config.extractor, config.weights, device)
    with group.together():
        check_extractor(extractor, config, size, reference)
    evaluation = Evaluation(config, size, device, reference, extractor, group, show)
    if is_npz(config.source) or is_image_folder(config.source):
        readings = evaluation.read_stored()
    else:
        readings = evaluation.read_drawn()
    return evaluation.scored(readings)


def check_extractor(
    extractor: Extractor, config: EvaluateConfig, size: str, reference: Reference
) -> None:
    """Raise UserError where the extractor cannot read this size or the stored statistics."""
    least = max(extractor.min_side, 8 if config.reference in DRAWN else 1)
    if min(parse_size(size)) < least:
        raise UserError(f"size: {size} is too small; {extractor.name} needs {least} pixels a side")
    if reference.stored is not None and len(reference.stored.mean) != extractor.num_features:
        raise UserError(
            f"reference: {config.reference} holds mu and sigma of {len(reference.stored.mean)} "
            f"features, but {extractor.name} has {extractor.num_features}"
        )


@dataclass(frozen=True)
class Evaluation:
    """One source against one reference, at one size, through one extractor."""

    config: EvaluateConfig
    size: str
    device: str
    reference: Reference
    extractor: Extractor
    group: Group
    show: Callable[[Batch], object] | None = None

    def read_stored(self) -> Readings:
        """Read images of a folder or ``.npz``, in a fixed random order: they may be sorted."""
        config, reference = self.config, self.reference.images
        path = Path(config.source)
        with self.group.together():
            if is_npz(config.source):
                part = Part.mixed(NpzImages(path, self.size))
            else:
                folder = FolderConfig(path=path, size=self.size, on_error=config.on_error)
                part = Part.mixed(build_images(folder))
            part = part.sound(config.num_images)
            if self.group.main:
                tell_not_scored("source", part.left_out)
            count = self._count(len(part))
        names = part.class_names or (reference.class_names if reference else ())
        images = self._read(part, count, names)
        real, floor = self._read_real(count, names)
        return Readings(images, real, floor, AS_STORED, left_out=tuple(part.left_out))

    def read_drawn(self) -> Readings:
        """Draw images from the model and read them.

        Where the reference is a folder of the model's classes the images take its labels, so that
        unequal shares of the classes do not count against the model.
        """
        config = self.config
        pipe, source, weights = load_together(
            self.group, config.source, self.device, config.dtype, config.vae
        )
        names = class_names(source)
        with self.group.together():
            count = self._count()
        real, floor = self._read_real(count, names)
        labels, rule = labels_in_turn(count, len(names)), IN_TURN
        part = self.reference.images
        stored = part is not None and isinstance(part.source, StoredImages)
        if real is not None and stored and set(real.class_names) <= set(names):
            same = [names.index(real.class_names[label]) for label in real.labels.tolist()]
            labels, rule = [same[k % len(same)] for k in range(count)], AS_REFERENCE
        batches = self._drawn(pipe, labels)
        images = read(self.extractor, batches, count, names, self.group)
        return Readings(images, real, floor, rule, weights)

    def scored(self, readings: Readings) -> Scored:
        """The figures, and a table of them."""
        extractor, stored = self.extractor, self.reference.stored
        score = partial(compare, readings.reference, stored, k=self.config.k, extractor=extractor)
        scores = score(readings.images)
        floor = score(readings.floor) if readings.floor else None
        sets = {
            "images": readings.images,
            "reference": readings.reference,
            "floor": readings.floor,
        }
        counts = {name: len(part.labels) if part else 0 for name, part in sets.items()}
        source, reference = self.config.source, self.config.reference
        against = f"{counts['reference']} real ones" if counts["reference"] else reference
        text = "\n".join(
            [
                f"\n{source} at {self.size}: {counts['images']} images against {against}",
                f"labels: {readings.labels}",
                table(scores, floor, extractor),
            ]
        )
        real = self.reference.images
        content = {
            "schema": "diffgen-evaluation/1",
            "weights": readings.weights,
            "scores": asdict(scores),
            "floor": floor and asdict(floor),
            "not_available": missing(scores, extractor),
            "extractor": extractor.facts(),
            "counts": counts,
            "size": self.size,
            "labels": readings.labels,
            "label_counts": {name: part and part.label_counts() for name, part in sets.items()},
            "settings": self.config.model_dump(mode="json"),
            "places": places(self.config),
            "beside": Path(source).is_dir(),
            "reference_data": real and real.settings,
            "left_out": {"images": readings.left_out, "reference": self.reference.left_out},
            "quantisation": QUANTISATION,
            "conventions": conventions(self.config.k, stored),
            "processes": self.group.world,
            "versions": {name: version(name) for name in LIBRARIES},
        }
        return Scored(content, text)

    def _count(self, available: int | None = None) -> int:
        """Images to score: as many as asked for, as there are, and as the floor has.

        Raises:
            UserError: too few.
        """
        other = self.reference.other
        limits = [self.config.num_images, available, None if other is None else len(other)]
        count = min(limit for limit in limits if limit is not None)
        if count <= self.config.k:
            raise UserError(
                f"source: {self.config.source} has {count} images, k = {self.config.k} needs more"
            )
        return count

    def _read_real(
        self, count: int, names: tuple[str, ...]
    ) -> tuple[Reading | None, Reading | None]:
        """Reference and floor; ``names`` of the source serve a reference that has none."""
        images, other = self.reference.images, self.reference.other
        real = self._read(images, len(images), images.class_names or names) if images else None
        floor = self._read(other, count, other.class_names or names) if other else None
        return real, floor

    def _read(self, part: Part, count: int, names: tuple[str, ...]) -> Reading:
        batches = part.first(count).batches(self.config.batch_size, self.group)
        return read(self.extractor, batches, count, names, self.group)

    def _drawn(self, pipe: DiffGenPipeline, labels: list[int]) -> Iterator[Batch]:
        """This process's batches of drawn images."""
        height, width = parse_size(self.size)
        config, group = self.config, self.group
        mine = group.deal(cut(len(labels), config.batch_size))
        drawn = draw_batches(
            pipe, config, labels, height=height, width=width, seed=config.seed, batches=mine
        )
        total = sum(map(len, mine))
        with tqdm(total=total, unit="img", desc="drawing", disable=not group.main) as bar:
            for batch in drawn:
                read = (batch.numbers, batch.images, batch.labels)
                if self.show is not None:
                    self.show(read)
                yield read
                bar.update(len(batch.numbers))


def class_names(source: Source) -> tuple[str, ...]:
    """A name for every class of a model, "" for those without."""
    names = source.class_names[: source.num_classes]
    return names + ("",) * (source.num_classes - len(names))

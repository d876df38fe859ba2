"""``eval``: score a model, a folder of images or an ``.npz`` against held-out real images."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from diffgen.commands.bench import Bench, class_names
from diffgen.commands.left_out import tell_not_scored
from diffgen.commands.load import Loaded
from diffgen.commands.real_images import Part
from diffgen.commands.saved_scores import places, save
from diffgen.config.base import parse_size
from diffgen.config.data import FolderConfig
from diffgen.config.evaluate import EvaluateConfig
from diffgen.config.pictures import is_image_folder, is_npz
from diffgen.data.images import StoredImages
from diffgen.data.npz import NpzImages
from diffgen.data.pixels import QUANTISATION
from diffgen.data.source import build_images
from diffgen.device import on_cpu
from diffgen.group import Group, cut
from diffgen.metrics.colour import colour_means
from diffgen.metrics.read import Batch, Reading, read
from diffgen.metrics.report import compare, conventions, missing, table
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
    guide_weights: str | None = None
    """Of the weaker model's that guided it; None: there was none."""
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


def colour_facts(reading: Reading) -> dict[str, Any]:
    """The colours of a set of images, as JSON holds them."""
    return {name: asdict(found) for name, found in colour_means(reading.colour).items()}


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
    return score_on(Bench(config, group, real), config, show)


def score_on(
    bench: Bench, config: EvaluateConfig, show: Callable[[Batch], object] | None = None
) -> Scored:
    """``score`` on what is open already; ``config`` may differ in guidance and seed."""
    evaluation = Evaluation(bench, config, show)
    if is_npz(config.source) or is_image_folder(config.source):
        readings = evaluation.read_stored()
    else:
        readings = evaluation.read_drawn()
    return evaluation.scored(readings)


@dataclass(frozen=True)
class Evaluation:
    """One source against one reference, at one size, through one extractor."""

    bench: Bench
    config: EvaluateConfig
    show: Callable[[Batch], object] | None = None

    def read_stored(self) -> Readings:
        """Read images of a folder or ``.npz``, in a fixed random order: they may be sorted."""
        config, bench = self.config, self.bench
        path, reference = Path(config.source), bench.reference.images
        with bench.group.together():
            if is_npz(config.source):
                part = Part.mixed(NpzImages(path, bench.size))
            else:
                folder = FolderConfig(path=path, size=bench.size, on_error=config.on_error)
                part = Part.mixed(build_images(folder))
            part = part.sound(config.num_images)
            if bench.group.main:
                tell_not_scored("source", part.left_out)
            count = bench.counted(len(part))
        names = part.class_names or (reference.class_names if reference else ())
        images = bench.read(part, count, names)
        real, floor = bench.real(count, names)
        return Readings(images, real, floor, AS_STORED, left_out=tuple(part.left_out))

    def read_drawn(self) -> Readings:
        """Draw images from the model and read them.

        Where the reference is a folder of the model's classes the images take its labels, so that
        unequal shares of the classes do not count against the model.
        """
        bench = self.bench
        loaded = bench.model(self.config)
        names = class_names(loaded.source)
        with bench.group.together():
            count = bench.counted()
        real, floor = bench.real(count, names)
        labels, rule = labels_in_turn(count, len(names)), IN_TURN
        part = bench.reference.images
        stored = part is not None and isinstance(part.source, StoredImages)
        if real is not None and stored and set(real.class_names) <= set(names):
            same = [names.index(real.class_names[label]) for label in real.labels.tolist()]
            labels, rule = [same[k % len(same)] for k in range(count)], AS_REFERENCE
        batches = self._drawn(loaded, labels)
        images = read(bench.extractor, batches, count, names, bench.group)
        return Readings(images, real, floor, rule, loaded.weights, loaded.guide_weights)

    def scored(self, readings: Readings) -> Scored:
        """The figures, and a table of them."""
        bench = self.bench
        extractor, stored = bench.extractor, bench.reference.stored
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
                f"\n{source} at {bench.size}: {counts['images']} images against {against}",
                f"labels: {readings.labels}",
                table(scores, floor, readings.reference, extractor),
            ]
        )
        real, seen = bench.reference.images, readings.reference
        content = {
            "schema": "diffgen-evaluation/1",
            "weights": readings.weights,
            "guide_weights": readings.guide_weights,
            "scores": asdict(scores),
            "floor": floor and asdict(floor),
            "reference_colour": seen and colour_facts(seen),
            "not_available": missing(scores, extractor),
            "extractor": extractor.facts(),
            "counts": counts,
            "size": bench.size,
            "labels": readings.labels,
            "label_counts": {name: part and part.label_counts() for name, part in sets.items()},
            "settings": self.config.model_dump(mode="json"),
            "places": places(self.config),
            "beside": Path(source).is_dir(),
            "reference_data": real and real.settings,
            "left_out": {"images": readings.left_out, "reference": bench.reference.left_out},
            "quantisation": QUANTISATION,
            "conventions": conventions(self.config.k, stored),
            "processes": bench.group.world,
            "versions": {name: version(name) for name in LIBRARIES},
        }
        return Scored(content, text)

    def _drawn(self, loaded: Loaded, labels: list[int]) -> Iterator[Batch]:
        """This process's batches of drawn images."""
        height, width = parse_size(self.bench.size)
        config, group = self.config, self.bench.group
        mine = group.deal(cut(len(labels), config.batch_size))
        drawn = draw_batches(
            loaded.pipe,
            config,
            labels,
            height=height,
            width=width,
            seed=config.seed,
            batches=mine,
            guide=loaded.guide,
        )
        total = sum(map(len, mine))
        with tqdm(total=total, unit="img", desc="drawing", disable=not group.main) as bar:
            for batch in drawn:
                read = (batch.numbers, batch.images, batch.labels)
                if self.show is not None:
                    self.show(read)
                yield read
                bar.update(len(batch.numbers))

"""``eval``: score a model, a folder of images or an ``.npz`` against held-out real images."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from diffgen.commands.bench import Bench
from diffgen.commands.drawing import Plan, read_drawn
from diffgen.commands.drawn_classes import FIXED, classes_to_draw
from diffgen.commands.ema_after import RebuiltAverage
from diffgen.commands.ema_widths import width_table
from diffgen.commands.left_out import tell_not_scored
from diffgen.commands.parts import Parts, held, versions
from diffgen.commands.real_images import Part
from diffgen.commands.saved_images import claim
from diffgen.commands.saved_scores import places, save
from diffgen.config.data import FolderConfig
from diffgen.config.evaluate import EvaluateConfig
from diffgen.config.pictures import is_image_folder, is_npz
from diffgen.config.profiles import profile_settings
from diffgen.data.images import StoredImages
from diffgen.data.npz import NpzImages
from diffgen.data.pixels import QUANTISATION
from diffgen.data.source import build_images
from diffgen.device import on_cpu
from diffgen.group import Group
from diffgen.metrics.read import Reading
from diffgen.metrics.report import Report, conventions, score_all, table

AS_STORED = "as in the source"
SCHEMA = "diffgen-evaluation/2"


@dataclass(frozen=True)
class Readings:
    """Everything one evaluation compares."""

    images: Reading
    reference: Reading | None
    floor: Reading | None
    labels: str
    """Where the labels of ``images`` come from."""
    order: Tensor
    """(N,) places of ``images`` in the order of their source."""
    weights: str | None = None
    """Digest of the model's weights; None: the images were not drawn."""
    guide_weights: str | None = None
    """Of the weaker model's that guided it; None: there was none."""
    average: RebuiltAverage | None = None
    """Which average of its run the weights are; None: the model's own."""
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
    with group.together():
        config = config.settled()
        size = config.picture_size()
        parts = parts_folder(config, size)
    with held(parts, group):
        every = config.each()
        with group.together():
            for one in every if group.main else ():
                if one.save is not None:
                    claim(one.save, parts.name)
        bench = Bench(config, group, parts, size, real)
        saved: dict[Path, dict[str, Any]] = {}
        for one in every:
            scored = score_on(bench, one, parts)
            with group.together():
                if group.main:
                    saved[write(scored, one, bench)] = scored.content
        if group.main and len(saved) > 1:
            print("\n".join(width_table(saved)))
    group.leave()


def parts_folder(config: EvaluateConfig, size: str) -> Path:
    """Beside the JSON, of these settings alone: evaluations of one model may run at once."""
    target = config.target(size)
    settings = config.model_dump_json(exclude={"out", "report", "device"})
    digest = sha256(settings.encode()).hexdigest()
    return target.with_name(f"{target.stem}-{digest[:8]}.parts")


class Scored(NamedTuple):
    """The outcome of an evaluation; the main process alone has figures."""

    content: dict[str, Any]
    """Figures and settings, as JSON holds them."""
    text: str
    """A table of the figures."""
    readings: Readings
    """What was compared."""


def write(scored: Scored, config: EvaluateConfig, bench: Bench) -> Path:
    """Print the table, save the figures and, where it is asked for, the report; the JSON file."""
    print(scored.text)
    target = save(scored.content, config.out, config.target(bench.size))
    print(f"saved as {target}")
    if config.report is not None:
        from diffgen.commands.evaluation_report import write_report  # loads matplotlib

        seen, part = scored.readings, bench.reference.images
        write_report(config.report, scored.content, seen.images, seen.reference, part)
        print(f"report {config.report}")
    return target


def score_on(bench: Bench, config: EvaluateConfig, parts: Path, plan: Plan | None = None) -> Scored:
    """Score on what is open already; every process of the bench's group must call it.

    Args:
        bench: reference, extractors and model.
        config: that of the bench, but for guidance, steps, seed and the width of an average.
        parts: folder for what is seen of the images.
        plan: of images that are drawn; None: of the classes that ``config`` asks for, free.

    Raises:
        UserError: anything a user can mend; see its message.
    """
    evaluation = Evaluation(bench, config, Parts(parts, bench.extractors), plan)
    if is_npz(config.source) or is_image_folder(config.source):
        readings = evaluation.read_stored()
    else:
        readings = evaluation.read_drawn()
    content: dict[str, Any] = {}
    text = ""
    with bench.group.together():
        if bench.group.main:
            content, text = evaluation.scored(readings)
    return Scored(content, text, readings)


@dataclass(frozen=True)
class Evaluation:
    """One source against one reference, at one size, through the extractors."""

    bench: Bench
    config: EvaluateConfig
    parts: Parts
    plan: Plan | None = None

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
            facts = {"path": str(path.resolve()), **part.first(count).facts(bench.size)}
            shards = self.parts.shards("images", count, config.batch_size, facts)
        names = part.class_names or (reference.class_names if reference else ())
        images = bench.read(part, count, names, shards)
        real, floor = bench.real(count, names)
        order = torch.tensor(part.first(count).numbers).argsort()
        left_out = tuple(part.left_out)
        return Readings(images, real, floor, AS_STORED, order, left_out=left_out)

    def read_drawn(self) -> Readings:
        """Draw images from the model and read them."""
        bench, config = self.bench, self.config
        loaded = bench.model(config)
        names = loaded.source.every_name
        with bench.group.together():
            count = bench.counted()
        real, floor = bench.real(count, names)
        plan = self.plan or Plan(
            *classes_to_draw(config, bench.reference.images, real, names, count)
        )
        images = read_drawn(bench, config, plan, self.parts, "images", range(count))
        weights = loaded.weights, loaded.guide_weights, loaded.average
        return Readings(images, real, floor, plan.rule, torch.arange(count), *weights)

    def scored(self, readings: Readings) -> tuple[dict[str, Any], str]:
        """The figures, and a table of them."""
        bench, config = self.bench, self.config
        report = score_all(
            bench.extractors,
            readings.images,
            readings.reference,
            readings.floor,
            config,
            stored=bench.reference.moments,
            order=readings.order,
            balanced=readings.labels in FIXED,
        )
        for seen in report.seen:
            seen.images.notes.extend(bench.reference.notes(seen.extractor))
        report.seen[0].images.notes.extend(self._too_few(readings.images.count))
        sets = {
            "images": readings.images,
            "reference": readings.reference,
            "floor": readings.floor,
        }
        counts = {name: part.count if part else 0 for name, part in sets.items()}
        real = bench.reference.images
        content = {
            "schema": SCHEMA,
            "profile": config.profile,
            "weights": readings.weights,
            "guide_weights": readings.guide_weights,
            "average": readings.average and asdict(readings.average),
            **report.content(),
            "counts": counts,
            "size": bench.size,
            "labels": readings.labels,
            "label_counts": {name: part and part.label_counts() for name, part in sets.items()},
            "settings": config.model_dump(mode="json"),
            "places": places(config),
            "beside": Path(config.source).is_dir(),
            "reference_data": real and real.settings,
            "reference_file": bench.reference.header,
            "left_out": {"images": readings.left_out, "reference": bench.reference.left_out},
            "quantisation": QUANTISATION,
            "conventions": conventions(config, bool(bench.reference.stored)),
            "processes": bench.group.world,
            "versions": versions(),
        }
        return content, self._text(report, counts, readings)

    def _too_few(self, count: int) -> Iterator[str]:
        """Warnings that there are fewer images than asked for, or than a profile is of."""
        asked, profile = self.config.num_images, self.config.profile
        if self.config.floor and self.bench.reference.stored:
            yield "no floor: the statistics in the reference file are of all its images"
        if count < asked and "num_images" in self.config.model_fields_set:
            part, other = self.bench.reference.images, self.bench.reference.other
            real = f"{len(part)} real images, {len(other)} for the floor" if part and other else ""
            yield f"{asked:,} images were asked for, {count:,} are scored{real and f' ({real})'}"
        if profile not in (None, "embedded"):
            wanted = profile_settings(profile)["num_images"]
            if count != wanted:
                yield (
                    f"profile {profile} is of {wanted:,} images, these figures are of {count:,}: "
                    "do not set them beside published ones"
                )

    def _text(self, report: Report, counts: dict[str, int], readings: Readings) -> str:
        config = self.config
        against = f"{counts['reference']} real ones" if counts["reference"] else config.reference
        profile = f"profile {config.profile}, " if config.profile else ""
        return "\n".join(
            [
                f"\n{config.source} at {self.bench.size}: {profile}{counts['images']} images "
                f"against {against}",
                *([readings.average.told()] if readings.average else []),
                f"labels: {readings.labels}",
                table(report),
            ]
        )

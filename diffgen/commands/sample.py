"""``sample``: PNGs at any size, a contact sheet, and the settings to make them again."""

import platform
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from tqdm import tqdm

from diffgen.commands.constraints import Constraints, read_constraints
from diffgen.commands.guide import load_together
from diffgen.commands.load import Loaded
from diffgen.config.base import parse_size
from diffgen.config.sample import SampleConfig
from diffgen.config.sampling import class_indices
from diffgen.config.source import Source
from diffgen.data.pixels import QUANTISATION, to_pil
from diffgen.device import on_cpu
from diffgen.files import locked, write_file
from diffgen.group import Group, cut
from diffgen.sampling.batches import draw_batches, labels_in_turn, set_up
from diffgen.sampling.folder import SampleFolder
from diffgen.sampling.labels import file_name
from diffgen.sampling.sheet import SHOWN, contact_sheet, wrap
from diffgen.signals import Interrupted


@dataclass(frozen=True)
class Picture:
    """One image of the run: number ``k`` of its size."""

    file: Path
    """Below the output folder."""
    size: str
    class_name: str
    label: int
    k: int


@dataclass(frozen=True)
class Drawing:
    """What pictures are drawn with."""

    loaded: Loaded
    config: SampleConfig
    constraints: Constraints


def sample(config: SampleConfig) -> None:
    """Draw ``num_images`` at every size into ``config.out``.

    Several processes share the batches. Pictures the same run has left there are kept.

    Raises:
        UserError: anything a user can mend; see its message.
        Interrupted: a signal came; its message tells how many pictures there are.
    """
    group = Group.join(cpu=on_cpu(config.device))
    with ExitStack() as lock:
        loaded = load_together(group, config)
        with group.together():
            set_up(loaded.pipe, config, loaded.guide)
            batches = planned(config, loaded.source)
            sizes = list(dict.fromkeys(batch[0].size for batch in batches))
            constraints = read_constraints(config, loaded, sizes, config.num_images)
            drawing = Drawing(loaded, config, constraints)
            notes = sidecar(drawing, flat(batches))
            if group.main:
                lock.enter_context(locked(config.out))
                SampleFolder(config.out).open(notes, [p.file for p in flat(batches)])
        draw_missing(drawing, batches, notes, group)
    group.leave()
    if group.main:
        sheets = len(notes["sizes"])
        print(f"{len(notes['images'])} images and {sheets} contact sheets in {config.out}")


def draw_missing(
    drawing: Drawing, batches: list[list[Picture]], notes: dict[str, Any], group: Group
) -> None:
    """Draw the pictures that are not there yet, then the contact sheets."""
    out, pictures = drawing.config.out, flat(batches)
    folder = SampleFolder(out)
    with group.together():
        todo = [batch for batch in batches if not all(folder.has(p.file) for p in batch)]
    try:
        draw(drawing, todo, group, len(pictures))
        with group.together():
            if group.main:
                draw_sheets(drawing, pictures)
                folder.close(notes)
    except Interrupted as stop:
        there = sum(folder.has(picture.file) for picture in pictures)
        left = f"{there} of {len(pictures)} images are in {out}, the same command goes on"
        raise Interrupted(stop.signum, left) from None


def flat(batches: list[list[Picture]]) -> list[Picture]:
    """The pictures of all batches."""
    return [picture for batch in batches for picture in batch]


def planned(config: SampleConfig, source: Source) -> list[list[Picture]]:
    """Every image of the run, in the batches they are drawn in."""
    chosen = class_indices(config.classes, source)
    labels = labels_in_turn(config.num_images, source.num_classes, chosen)
    sizes = config.size or ["{}x{}".format(*source.sample_size)]
    names = source.every_name

    def picture(size: str, k: int) -> Picture:
        name = file_name(names, labels[k])
        file = Path(size) / f"{name}-seed{config.seed}-{k:05d}.png"
        return Picture(file, size, name, labels[k], k)

    return [
        [picture(size, k) for k in numbers]
        for size in dict.fromkeys(sizes)
        for numbers in cut(len(labels), config.batch_size)
    ]


def draw(drawing: Drawing, todo: list[list[Picture]], group: Group, total: int) -> None:
    """Draw and save the batches, one a process at a time; ``total`` counts those there too."""
    kept = total - sum(len(batch) for batch in todo)
    mine = group.deal(todo)
    with tqdm(
        total=total, initial=kept, unit="img", desc="sampling", disable=not group.main
    ) as bar:
        for turn in range(-(-len(todo) // group.world)):
            with group.together():
                if turn < len(mine):
                    draw_batch(drawing, mine[turn])
            drawn = todo[turn * group.world : (turn + 1) * group.world]
            bar.update(sum(len(batch) for batch in drawn))


def draw_batch(drawing: Drawing, batch: list[Picture]) -> None:
    """Draw and save one batch."""
    loaded, config = drawing.loaded, drawing.config
    height, width = parse_size(batch[0].size)
    labels = {picture.k: picture.label for picture in batch}
    numbers = [range(batch[0].k, batch[-1].k + 1)]
    drawn = draw_batches(
        loaded.pipe,
        config,
        labels,
        height=height,
        width=width,
        seed=config.seed,
        batches=numbers,
        guide=loaded.guide,
        constrain=drawing.constraints.at(batch[0].size),
        recurrence=config.constraint_recurrence,
    )
    for picture, image in zip(batch, to_pil(next(drawn).images), strict=True):
        write_file(config.out / picture.file, image.save)


def draw_sheets(drawing: Drawing, pictures: list[Picture]) -> None:
    """A contact sheet of the first 64 pictures of each size, below what they were to match."""
    out, asked = drawing.config.out, drawing.constraints.asked
    for size in dict.fromkeys(picture.size for picture in pictures):
        images = []
        for picture in [picture for picture in pictures if picture.size == size][:SHOWN]:
            with Image.open(out / picture.file) as image:
                images.append(image.copy())
        above = [one.row(size) for one in asked]
        sheet = contact_sheet(wrap(size, images, 8, above))
        write_file(out / f"sheet-{size}.png", sheet.save)


def sidecar(drawing: Drawing, pictures: list[Picture]) -> dict[str, Any]:
    """Everything needed to draw the same images again."""
    loaded, config, asked = drawing.loaded, drawing.config, drawing.constraints.asked
    pipe = loaded.pipe
    return {
        "schema": "diffgen-samples/1",
        "source": config.source,
        "weights": loaded.weights,
        "guide_weights": loaded.guide_weights,
        "settings": config.model_dump(mode="json"),
        "sizes": list(dict.fromkeys(picture.size for picture in pictures)),
        "scheduler": dict(pipe.scheduler.config) | {"class": type(pipe.scheduler).__name__},
        "noise": "image k starts from randn of diffgen.seeding.image_noise(seed, [k])",
        "quantisation": QUANTISATION,
        "device": pipe.device.type,
        "dtype": str(pipe.transformer.dtype),
        "torch_threads": torch.get_num_threads(),
        "versions": {name: version(name) for name in ("diffgen", "torch", "diffusers")},
        "python": platform.python_version(),
        "class_names": list(loaded.source.class_names),
        "constraints": [one.note() for one in asked],
        "images": [
            {
                "file": str(picture.file),
                "size": picture.size,
                "class": picture.class_name,
                "label": picture.label,
                "seed": config.seed,
                "number": picture.k,
                "conditions": [one.file(picture.k) for one in asked],
            }
            for picture in pictures
        ],
    }

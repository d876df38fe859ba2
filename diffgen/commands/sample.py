"""``sample``: PNGs at any size, a contact sheet, and the settings to make them again."""

from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from diffgen.commands.constraints import Asked, read_constraints
from diffgen.commands.guide import load_together
from diffgen.commands.load import Loaded
from diffgen.commands.shared_drawing import draw_shared, facts_of_drawing
from diffgen.config.base import parse_size
from diffgen.config.sample import SampleConfig
from diffgen.config.sampling import class_indices
from diffgen.config.source import Source
from diffgen.data.pixels import to_pil
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
    """What is drawn, and what with."""

    loaded: Loaded
    config: SampleConfig
    sizes: list[str]
    asked: list[Asked]
    batches: list[list[Picture]]

    @property
    def pictures(self) -> list[Picture]:
        """Those of all batches."""
        return [picture for batch in self.batches for picture in batch]


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
            config = config.for_distilled(loaded.source.distilled)
            set_up(loaded.pipe, config, loaded.guide)
            sizes = list(dict.fromkeys(config.size or ["{}x{}".format(*loaded.source.sample_size)]))
            asked = read_constraints(config, loaded, sizes)
            drawing = Drawing(loaded, config, sizes, asked, planned(config, loaded.source, sizes))
            notes = sidecar(drawing)
            if group.main:
                lock.enter_context(locked(config.out))
                SampleFolder(config.out).open(notes, [p.file for p in drawing.pictures])
        draw_missing(drawing, notes, group)
    group.leave()
    if group.main:
        print(f"{len(notes['images'])} images and {len(sizes)} contact sheets in {config.out}")


def draw_missing(drawing: Drawing, notes: dict[str, Any], group: Group) -> None:
    """Draw the pictures that are not there yet, then the contact sheets."""
    folder, pictures = SampleFolder(drawing.config.out), drawing.pictures
    with group.together():
        todo = [batch for batch in drawing.batches if not all(folder.has(p.file) for p in batch)]
    try:
        draw_shared(todo, len(drawing.pictures), partial(draw_batch, drawing), group)
        with group.together():
            if group.main:
                draw_sheets(drawing)
                folder.close(notes)
    except Interrupted as stop:
        there = sum(folder.has(picture.file) for picture in pictures)
        left = f"{there} of {len(pictures)} images are in {folder.path}, the same command goes on"
        raise Interrupted(stop.signum, left) from None


def planned(config: SampleConfig, source: Source, sizes: list[str]) -> list[list[Picture]]:
    """Every image of the run, in the batches they are drawn in."""
    chosen = class_indices(config.classes, source)
    labels = labels_in_turn(config.num_images, source.num_classes, chosen)
    names = source.every_name

    def picture(size: str, k: int) -> Picture:
        name = file_name(names, labels[k])
        file = Path(size) / f"{name}-seed{config.seed}-{k:05d}.png"
        return Picture(file, size, name, labels[k], k)

    return [
        [picture(size, k) for k in numbers]
        for size in sizes
        for numbers in cut(len(labels), config.batch_size)
    ]


def draw_batch(drawing: Drawing, batch: list[Picture]) -> None:
    """Draw and save one batch."""
    loaded, config, size = drawing.loaded, drawing.config, batch[0].size
    height, width = parse_size(size)
    drawn = draw_batches(
        loaded.pipe,
        config,
        {picture.k: picture.label for picture in batch},
        height=height,
        width=width,
        seed=config.seed,
        batches=[range(batch[0].k, batch[-1].k + 1)],
        guide=loaded.guide,
        constrain=lambda numbers: [one.at(size, numbers) for one in drawing.asked],
        recurrence=config.constraint_recurrence,
    )
    for picture, image in zip(batch, to_pil(next(drawn).images), strict=True):
        write_file(config.out / picture.file, image.save)


def draw_sheets(drawing: Drawing) -> None:
    """A contact sheet of the first 64 pictures of each size, below what they were to match."""
    out = drawing.config.out
    for size in drawing.sizes:
        images = []
        for picture in [picture for picture in drawing.pictures if picture.size == size][:SHOWN]:
            with Image.open(out / picture.file) as image:
                images.append(image.copy())
        sheet = contact_sheet(wrap(size, images, 8, [one.row(size) for one in drawing.asked]))
        write_file(out / f"sheet-{size}.png", sheet.save)


def sidecar(drawing: Drawing) -> dict[str, Any]:
    """Everything needed to draw the same images again."""
    loaded, config = drawing.loaded, drawing.config
    return {
        "schema": "diffgen-samples/1",
        "source": config.source,
        "weights": loaded.weights,
        "guide_weights": loaded.guide_weights,
        "settings": config.model_dump(mode="json"),
        "sizes": drawing.sizes,
        **facts_of_drawing(loaded),
        "noise": "image k starts from randn of diffgen.seeding.image_noise(seed, [k])",
        "constraints": [one.note() for one in drawing.asked],
        "images": [
            {
                "file": str(picture.file),
                "size": picture.size,
                "class": picture.class_name,
                "label": picture.label,
                "seed": config.seed,
                "number": picture.k,
                "conditions": [one.file(picture.k) for one in drawing.asked],
            }
            for picture in drawing.pictures
        ],
    }

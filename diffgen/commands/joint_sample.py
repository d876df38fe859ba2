"""``joint-sample``: pairs of images and pictures of their conditions, or either from the other."""

from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from diffgen.commands.joint_drawing import Drawing, draw_batch, planned
from diffgen.commands.load import CHANGED, load_pipeline
from diffgen.commands.shared_drawing import draw_shared, facts_of_drawing
from diffgen.config.joint_sample import JointSampleConfig
from diffgen.device import on_cpu
from diffgen.errors import SharedError
from diffgen.files import locked, write_file
from diffgen.group import Group
from diffgen.sampling.folder import SampleFolder
from diffgen.sampling.sheet import SHOWN, Row, contact_sheet, wrap
from diffgen.signals import Interrupted

COLUMNS = 8


def joint_sample(config: JointSampleConfig) -> None:
    """Draw images and maps at every size into ``config.out``.

    Several processes share the batches. Pictures the same run has left there are kept.

    Raises:
        UserError: anything a user can mend; see its message.
        Interrupted: a signal came; its message tells how many pairs there are.
    """
    group = Group.join(cpu=on_cpu(config.device))
    with ExitStack() as lock:
        with group.together():
            loaded = load_pipeline(config.source, config.device, config.dtype, config.vae)
            drawing = planned(config, loaded)
        own = [(note["weights"], note["config"]) for note in drawing.adapters]
        digests = (loaded.weights, *own)
        if len(set(group.everyones(digests))) > 1:
            raise SharedError(CHANGED.format(config.source))
        with group.together():
            notes = sidecar(config, drawing)
            if group.main:
                lock.enter_context(locked(config.out))
                SampleFolder(config.out).open(notes, drawing.files(drawing.pairs))
        draw_missing(drawing, notes, group)
    group.leave()
    if group.main:
        names, count = " and ".join(drawing.config.written()), len(drawing.pairs)
        print(f"{count} of {names} and {len(drawing.sizes)} contact sheets in {config.out}")


def draw_missing(drawing: Drawing, notes: dict[str, Any], group: Group) -> None:
    """Draw the pairs that are not there yet, then the contact sheets."""
    out, pairs = drawing.config.out, drawing.pairs
    with group.together():
        todo = [batch for batch in drawing.batches if not all(map(drawing.there, batch))]
    try:
        draw_shared(todo, len(drawing.pairs), partial(draw_batch, drawing), group)
        with group.together():
            if group.main:
                draw_sheets(drawing)
                SampleFolder(out).close(notes)
    except Interrupted as stop:
        there = sum(map(drawing.there, pairs))
        left = f"{there} of {len(pairs)} pairs are in {out}, the same command goes on"
        raise Interrupted(stop.signum, left) from None


def draw_sheets(drawing: Drawing) -> None:
    """A contact sheet of the first 64 pairs of each size: given, images, maps below each other."""
    branches = drawing.config.written()
    whole = [one.request.name for one in drawing.given if one.request.whole]
    for size in drawing.sizes:
        rows = [one.row(size) for one in drawing.given if not one.request.whole]
        shown = [pair for pair in drawing.pairs if pair.size == size][:SHOWN]
        for branch in sorted(branches, key=lambda name: name not in whole):
            title = f"{branch}, given" if branch in whole else branch
            rows.append(Row(title, [opened(drawing, pair.file(branch)) for pair in shown]))
        *above, last = rows
        sheet = contact_sheet(wrap(last.title, last.images, COLUMNS, above))
        write_file(drawing.config.out / f"sheet-{size}.png", sheet.save)


def opened(drawing: Drawing, file: Path) -> Image.Image:
    """A picture that is written."""
    with Image.open(drawing.config.out / file) as image:
        return image.copy()


def sidecar(config: JointSampleConfig, drawing: Drawing) -> dict[str, Any]:
    """Everything needed to draw the same pairs again, by the command ``config``."""
    loaded = drawing.loaded
    return {
        "schema": "diffgen-pairs/1",
        "source": config.source,
        "weights": loaded.weights,
        "settings": config.model_dump(mode="json"),
        "sizes": drawing.sizes,
        **facts_of_drawing(loaded),
        "noise": "image k starts from randn of diffgen.seeding.image_noise(seed, [k]), a condition "
        "from that of stream_seed(seed, its name, 0) % 2**32",
        "adapters": drawing.adapters,
        "given": [one.note() for one in drawing.given],
        "known": [one.mask_note() for one in drawing.given if one.masks],
        "pairs": [
            {
                "files": {branch: str(pair.file(branch)) for branch in drawing.config.written()},
                "size": pair.size,
                "class": pair.class_name,
                "label": pair.label,
                "seed": config.seed,
                "number": pair.k,
                "given": {one.request.name: one.file(pair.k) for one in drawing.given},
            }
            for pair in drawing.pairs
        ],
    }

"""``joint-sample``: pairs of images and pictures of their conditions, or either from the other."""

import platform
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from tqdm import tqdm

from diffgen.commands.joint_drawing import Drawing, Pair, draw_batch, planned
from diffgen.commands.load import CHANGED, load_pipeline
from diffgen.config.joint_sample import JointSampleConfig
from diffgen.data.pixels import QUANTISATION
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
        draw(drawing, todo, group)
        with group.together():
            if group.main:
                draw_sheets(drawing)
                SampleFolder(out).close(notes)
    except Interrupted as stop:
        there = sum(map(drawing.there, pairs))
        left = f"{there} of {len(pairs)} pairs are in {out}, the same command goes on"
        raise Interrupted(stop.signum, left) from None


def draw(drawing: Drawing, todo: list[list[Pair]], group: Group) -> None:
    """Draw and save the batches ``todo``, one a process at a time."""
    total = len(drawing.pairs)
    kept = total - sum(map(len, todo))
    with tqdm(
        total=total, initial=kept, unit="img", desc="sampling", disable=not group.main
    ) as bar:
        for turn in range(0, len(todo), group.world):
            drawn = todo[turn : turn + group.world]
            with group.together():
                for batch in group.deal(drawn):
                    draw_batch(drawing, batch)
            bar.update(sum(map(len, drawn)))


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
    loaded, pipe = drawing.loaded, drawing.loaded.pipe
    return {
        "schema": "diffgen-pairs/1",
        "source": config.source,
        "weights": loaded.weights,
        "settings": config.model_dump(mode="json"),
        "sizes": drawing.sizes,
        "scheduler": dict(pipe.scheduler.config) | {"class": type(pipe.scheduler).__name__},
        "noise": "image k starts from randn of diffgen.seeding.image_noise(seed, [k]), a condition "
        "from that of stream_seed(seed, its name, 0) % 2**32",
        "quantisation": QUANTISATION,
        "device": pipe.device.type,
        "dtype": str(pipe.transformer.dtype),
        "torch_threads": torch.get_num_threads(),
        "versions": {name: version(name) for name in ("diffgen", "torch", "diffusers")},
        "python": platform.python_version(),
        "class_names": list(loaded.source.class_names),
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

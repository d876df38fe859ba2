"""``resolutions``: models against sizes, as a table and a picture grid, cell by cell."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image, ImageOps
from torch import Tensor
from tqdm import tqdm

from diffgen.commands.evaluate import score
from diffgen.commands.saved_scores import FREE
from diffgen.config.base import parse_size
from diffgen.config.guidance import with_guidance
from diffgen.config.resolutions import ResolutionsConfig, RowConfig
from diffgen.config.source import resolve
from diffgen.data.pixels import to_pil
from diffgen.device import on_cpu
from diffgen.files import locked, weights_digest, write_file, write_json
from diffgen.group import Group
from diffgen.metrics.read import Batch
from diffgen.sampling.sheet import Row, contact_sheet
from diffgen.signals import Interrupted

SHORTEST, LONGEST = 64, 256
"""Between these the shorter sides of the grid's pictures lie, roughly [pixels]."""
SPELLED = (*FREE, "source")  # the same model by another path is told by its weights
NEEDED = {"settings", "weights", "model", "pictures", "scores", "floor", "counts"}


@dataclass(frozen=True)
class Cell:
    """One model at one size; its figures and pictures are two files in ``folder``."""

    row: RowConfig
    size: str
    folder: Path

    @property
    def file(self) -> Path:
        """The figures."""
        return self.folder / f"{self.row.stem}-{self.size}.json"

    @property
    def picture(self) -> Path:
        """Its first images, side by side."""
        return self.file.with_suffix(".png")

    def content(self) -> dict[str, Any] | None:
        """The figures; None: there are none that can be read."""
        try:
            found: dict[str, Any] = json.loads(self.file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        whole = isinstance(found, dict) and found.keys() >= NEEDED and readable(self.picture)
        return found if whole else None


def readable(picture: Path) -> bool:
    """True for a picture file that is there and whole."""
    try:
        with Image.open(picture) as image:
            image.load()
    except (OSError, SyntaxError):  # the second is Pillow's for a broken PNG
        return False
    return True


def resolutions(config: ResolutionsConfig) -> None:
    """Fill the cells that are missing, then write table and grid.

    Raises:
        UserError: anything a user can mend; see its message.
        Interrupted: a signal came; its message tells how many cells there are.
    """
    group = Group.join(cpu=on_cpu(config.device))
    with ExitStack() as lock:
        with group.together():
            if group.main:
                config.out.mkdir(parents=True, exist_ok=True)
                lock.enter_context(locked(config.out))
            cells = [
                Cell(row, size, config.out / "cells")
                for size in config.columns()
                for row in config.every_row()
            ]
            models = {row.source: model_digests(row.source) for row in config.every_row()}
            todo = [cell for cell in cells if not up_to_date(config, cell, models)]
        try:
            for cell in tqdm(todo, unit="cell", desc="cells", disable=not group.main):
                fill(config, cell, group, models[cell.row.source])
        except Interrupted as stop:
            there = sum(up_to_date(config, cell, models) for cell in cells)
            left = f"{there} of {len(cells)} cells are in {config.out}, the same command goes on"
            raise Interrupted(stop.signum, left) from None
        with group.together():
            if group.main:
                report(config, cells)
    group.leave()


class ModelDigests(NamedTuple):
    """What tells one model from another."""

    weights: str
    settings: str
    """Of every JSON file of its pipeline."""


def up_to_date(config: ResolutionsConfig, cell: Cell, models: dict[str, ModelDigests]) -> bool:
    """True where a cell holds the figures of these settings and this model."""
    found = cell.content()
    if found is None or found["pictures"] != config.pictures:
        return False
    wanted = config.cell(cell.row, cell.size).model_dump(mode="json")
    stated = with_guidance(found["settings"])
    same = all(stated.get(k) == v for k, v in wanted.items() if k not in SPELLED)
    return same and (found["weights"], found["model"]) == models[cell.row.source]


def model_digests(source: str) -> ModelDigests:
    """Read all files of the pipeline ``source`` names."""
    pipeline = resolve(source).pipeline
    settings = b"".join(path.read_bytes() for path in sorted(pipeline.rglob("*.json")))
    return ModelDigests(weights_digest(pipeline), hashlib.sha256(settings).hexdigest())


def fill(config: ResolutionsConfig, cell: Cell, group: Group, model: ModelDigests) -> None:
    """Draw, score and save one cell. All processes must call it."""
    shown: dict[int, Tensor] = {}

    def show(batch: Batch) -> None:
        numbers, images, _ = batch
        shown.update({k: z for k, z in zip(numbers, images, strict=True) if k < config.pictures})

    scored = score(config.cell(cell.row, cell.size), group, show=show)
    every = {k: z for part in group.everyones(shown) for k, z in part.items()}
    with group.together():
        if group.main:
            strip = torch.cat([every[k] for k in sorted(every)], dim=-1)
            write_file(cell.picture, to_pil(strip[None])[0].save)
            more = {"pictures": config.pictures, "model": model.settings}
            write_json(cell.file, {**scored.content, **more})


def report(config: ResolutionsConfig, cells: list[Cell]) -> None:
    """table.json, table.md and grid.png; the table is printed too."""
    found = [(cell, content) for cell in cells if (content := cell.content()) is not None]
    rows = [row.title for row in config.every_row()]
    sizes = config.columns()
    by_place = {(cell.row.title, cell.size): content for cell, content in found}
    table = {
        "schema": "diffgen-resolutions/1",
        "rows": rows,
        "sizes": sizes,
        "settings": config.model_dump(mode="json"),
        "cells": [
            {"row": cell.row.title, "size": cell.size, **_figures(content)}
            for cell, content in found
        ],
    }
    write_json(config.out / "table.json", table)
    text = "\n".join(markdown(rows, sizes, by_place))
    write_file(config.out / "table.md", lambda path: path.write_text(text + "\n", encoding="utf-8"))
    grid = contact_sheet(list(strips(config, cells)), scale=1)
    write_file(config.out / "grid.png", grid.save)
    print(f"\n{text}\n\nsaved as {config.out}/table.json, table.md and grid.png")


def shown(strip: Image.Image, shorter: int) -> Image.Image:
    """Pictures whose shorter side is ``shorter`` enlarged in whole pixels, or reduced."""
    if shorter > LONGEST:
        return ImageOps.scale(strip, LONGEST / shorter)
    return ImageOps.scale(strip, max(1, round(SHORTEST / shorter)), Image.Resampling.NEAREST)


def _figures(content: dict[str, Any]) -> dict[str, Any]:
    names = ("scores", "floor", "counts", "weights")
    return {name: content[name] for name in names}


def markdown(
    rows: list[str], sizes: list[str], cells: dict[tuple[str, str], dict[str, Any]]
) -> Iterator[str]:
    """FID, and the share read as the class asked for with its 95 % interval, a cell each."""
    yield f"| | {' | '.join(sizes)} |"
    yield "|---|" + "---|" * len(sizes)
    for row in rows:
        yield (
            f"| {row.replace('|', '/')} | "
            + " | ".join(_cell(cells[row, s]["scores"]) for s in sizes)
            + " |"
        )
    floors = [cells[rows[0], size]["floor"] for size in sizes]
    yield "| real against real | " + " | ".join(_cell(floor) for floor in floors) + " |"


def _cell(scores: dict[str, Any]) -> str:
    fid = f"{max(scores['fid'], 0):.3g}"
    if scores["class_accuracy"] is None:
        return fid
    low, high = scores["class_accuracy_interval"]
    return f"{fid}; {scores['class_accuracy']:.1%} [{low:.1%}, {high:.1%}]"


def strips(config: ResolutionsConfig, cells: list[Cell]) -> Iterator[Row]:
    """The pictures of each row, all sizes side by side, each at its proportions."""
    for row in config.every_row():
        images = []
        for cell in cells:
            if cell.row.title != row.title:
                continue
            with Image.open(cell.picture) as image:
                images.append(shown(image.convert("RGB"), min(parse_size(cell.size))))
        yield Row(f"{row.title}: {', '.join(config.columns())}", images)

"""``resolutions``: models against sizes, as a table and a picture grid, cell by cell."""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from PIL import Image

from diffgen.commands.bench import Bench
from diffgen.commands.cells import Cell, fill_table
from diffgen.commands.evaluate import Scored, score_on
from diffgen.config.base import parse_size
from diffgen.config.evaluate import EvaluateConfig
from diffgen.config.resolutions import ResolutionsConfig
from diffgen.files import write_file, write_json
from diffgen.group import Group
from diffgen.sampling.sheet import Row, contact_sheet, enlarged

Cells: TypeAlias = Mapping[tuple[str, str], Cell]
"""By the row's title and the size."""


def resolutions(config: ResolutionsConfig) -> None:
    """Fill the cells that are missing, then write table and grid; see ``fill_table``."""
    fill_table(
        config.out,
        config.device,
        partial(table_cells, config),
        lambda _, group: partial(scored, group),
        partial(report, config),
    )


def table_cells(config: ResolutionsConfig) -> Cells:
    """Every cell, whether it is filled or not."""
    return {
        (row.title, size): Cell(
            config.out / "cells" / f"{row.stem}-{size}.json",
            config.cell(row, size).settled(),
            config.pictures,
        )
        for size in config.columns()
        for row in config.every_row()
    }


def scored(group: Group, config: EvaluateConfig, parts: Path) -> Scored:
    """The evaluation of a cell."""
    return score_on(Bench(config, group, parts), config, parts)


def report(config: ResolutionsConfig, cells: Cells) -> None:
    """table.json, table.md and grid.png; the table is printed too."""
    found = {
        place: content for place, cell in cells.items() if (content := cell.content()) is not None
    }
    rows = [row.title for row in config.every_row()]
    sizes = config.columns()
    table = {
        "schema": "diffgen-resolutions/1",
        "rows": rows,
        "sizes": sizes,
        "settings": config.model_dump(mode="json"),
        "cells": [
            {"row": row, "size": size, **_figures(content)}
            for (row, size), content in found.items()
        ],
    }
    write_json(config.out / "table.json", table)
    text = "\n".join(markdown(rows, sizes, found))
    write_file(config.out / "table.md", lambda path: path.write_text(text + "\n", encoding="utf-8"))
    grid = contact_sheet(list(strips(config, cells)), scale=1)
    write_file(config.out / "grid.png", grid.save)
    print(f"\n{text}\n\nsaved as {config.out}/table.json, table.md and grid.png")


def _figures(content: dict[str, Any]) -> dict[str, Any]:
    names = ("scores", "intervals", "floor", "counts", "weights")
    return {name: content[name] for name in names}


def markdown(
    rows: list[str], sizes: list[str], cells: dict[tuple[str, str], dict[str, Any]]
) -> Iterator[str]:
    """FID, and the share read as the class asked for, each with its 95 % interval, a cell each."""
    yield f"| | {' | '.join(sizes)} |"
    yield "|---|" + "---|" * len(sizes)
    for row in rows:
        yield (
            f"| {row.replace('|', '/')} | " + " | ".join(_cell(cells[row, s]) for s in sizes) + " |"
        )
    floors = [cells[rows[0], size]["floor"] for size in sizes]
    if all(floors):
        yield "| real against real | " + " | ".join(map(_cell, floors)) + " |"
    first = cells[rows[0], sizes[0]]
    yield ""
    yield (
        f"FID by {first['extractor']['title']}, then the share read as the class asked for; 95 % "
        f"intervals; {first['counts']['images']} images a cell, against "
        f"{first['settings']['reference']}"
    )
    yield from dict.fromkeys(f"{note}" for cell in cells.values() for note in cell["notes"])


def _cell(figures: dict[str, Any]) -> str:
    scores, intervals = figures["scores"], figures["intervals"]
    fid = f"{max(scores['fid'], 0):.3g}"
    if intervals["fid"] is not None:
        low, high = intervals["fid"]
        fid += f" [{max(low, 0):.3g}, {max(high, 0):.3g}]"
    if scores["class_accuracy"] is None:
        return fid
    low, high = intervals["class_accuracy"]
    return f"{fid}; {scores['class_accuracy']:.1%} [{low:.1%}, {high:.1%}]"


def strips(config: ResolutionsConfig, cells: Cells) -> Iterator[Row]:
    """The pictures of each row, all sizes side by side, each at its proportions."""
    for row in config.every_row():
        images = []
        for size in config.columns():
            with Image.open(cells[row.title, size].picture) as image:
                images.append(enlarged(image.convert("RGB"), min(parse_size(size))))
        yield Row(f"{row.title}: {', '.join(config.columns())}", images)

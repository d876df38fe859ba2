"""``guidance-sweep``: guidance rules against scales, as a table, a plot and a picture grid."""

import shutil
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from PIL import Image

from diffgen.commands.bench import Bench
from diffgen.commands.cells import Cell, Score, fill_table
from diffgen.commands.evaluate import score_on
from diffgen.commands.sweep_plot import Line, draw_plot
from diffgen.config.base import parse_size
from diffgen.config.guidance import CFGConfig
from diffgen.config.guidance_sweep import GuidanceSweepConfig, RuleConfig, stem
from diffgen.files import write_file, write_json
from diffgen.group import Group
from diffgen.metrics.colour import MEASURES
from diffgen.metrics.intervals import mean_estimate
from diffgen.sampling.sheet import Row, contact_sheet, enlarged

FIGURES = ("fid", "precision", "recall", "class_accuracy", *MEASURES)
Cells: TypeAlias = Mapping[tuple[str, float, int], Cell]
"""By the rule's title, the scale and the seed."""
Means: TypeAlias = dict[str, dict[str, Any] | None]
"""Figures of a rule at a scale, over all seeds; None: not available."""


def guidance_sweep(config: GuidanceSweepConfig) -> None:
    """Fill the cells that are missing, then write table, plot and grid; see ``fill_table``."""
    fill_table(
        config.out, config.device, partial(sweep_cells, config), scorer, partial(report, config)
    )


def scorer(cells: Cells, group: Group) -> Score:
    """Evaluates cell after cell with the model and the real images opened once."""
    first = next(iter(cells.values()))
    bench = Bench(first.config, group, real_parts(first.file.parent))
    return partial(score_on, bench)


def real_parts(folder: Path) -> Path:
    """What is seen of the real images, until the sweep is done."""
    return folder / "real.parts"


def sweep_cells(config: GuidanceSweepConfig) -> Cells:
    """Every cell, whether it is filled or not; unguided ones are the same for every rule."""
    cells = {}
    for row in config.rows():
        for scale in config.columns():
            guidance = row.at(scale)
            same = guidance == CFGConfig(scale=1.0)
            name = "unguided" if same else f"{stem(row.title)}-{scale:g}"
            for seed in config.seeds:
                file = config.out / "cells" / f"{name}-seed{seed}.json"
                cell = Cell(file, config.cell(guidance, seed), config.pictures)
                cells[row.title, scale, seed] = cell
    return cells


def report(config: GuidanceSweepConfig, cells: Cells) -> None:
    """sweep.json, sweep.md, plot.png and grid.png; the table is printed too."""
    contents = {place: cell.content() or {} for place, cell in cells.items()}
    rows, scales, seeds = config.rows(), config.columns(), config.seeds
    every = {
        (row.title, scale): [figures(contents[row.title, scale, seed]) for seed in seeds]
        for row in rows
        for scale in scales
    }
    found = {place: averaged(of_seeds) for place, of_seeds in every.items()}
    some = next(iter(contents.values()))
    real = real_figures(some)
    first = rows[0].title
    sweep = {
        "schema": "diffgen-guidance-sweep/1",
        "settings": config.model_dump(mode="json"),
        "size": some["size"],
        "rules": {row.title: row.guidance.model_dump(mode="json") for row in rows},
        "scales": scales,
        "seeds": seeds,
        "counts": some["counts"],
        "weights": some["weights"],
        "real": real,
        "cells": [
            {"rule": title, "scale": scale, "seeds": every[title, scale], "figures": means}
            for (title, scale), means in found.items()
        ],
        "first": first,
        "less_first": [
            {"rule": row.title, "scale": scale, "figures": averaged(less)}
            for row in rows[1:]
            for scale in scales
            if (less := differences(every[row.title, scale], every[first, scale]))
        ],
        "intervals": "95 %, Student's t over seeds; none with one seed",
    }
    write_json(config.out / "sweep.json", sweep)
    text = "\n".join(markdown(found, real))
    write_file(config.out / "sweep.md", lambda path: path.write_text(text + "\n", encoding="utf-8"))
    lines = {row.title: line(row, scales, found) for row in rows}
    write_file(config.out / "plot.png", draw_plot(lines, real))
    grid = contact_sheet(list(strips(config, cells, some["size"])), scale=1)
    write_file(config.out / "grid.png", grid.save)
    shutil.rmtree(real_parts(config.out / "cells"), ignore_errors=True)
    print(f"\n{text}\n\nsaved as {config.out}/sweep.json, sweep.md, plot.png and grid.png")


def figures(content: dict[str, Any]) -> dict[str, float | None]:
    """The figures of one cell, by name."""
    return {name: content["scores"].get(name) for name in FIGURES}


def real_figures(content: dict[str, Any]) -> dict[str, float | None]:
    """What real images get: against others, and the colours of the reference."""
    floor = content["floor"]["scores"] if content["floor"] else {}
    colours = content["reference_colour"] or {}
    return {name: floor.get(name) for name in FIGURES} | colours


def averaged(of_seeds: list[dict[str, float | None]]) -> Means:
    """Mean and interval of each figure over seeds."""
    means: Means = {}
    for name in FIGURES:
        values = [one[name] for one in of_seeds]
        known = [value for value in values if value is not None]
        if len(known) < len(values):
            means[name] = None
            continue
        found = mean_estimate(known)
        means[name] = {"mean": found.value, "interval": found.interval}
    return means


def differences(
    these: list[dict[str, float | None]], those: list[dict[str, float | None]]
) -> list[dict[str, float | None]]:
    """``these`` less ``those``, seed by seed."""

    def less(a: float | None, b: float | None) -> float | None:
        return None if a is None or b is None else a - b

    return [
        {name: less(one[name], other[name]) for name in FIGURES}
        for one, other in zip(these, those, strict=True)
    ]


def line(row: RuleConfig, scales: list[float], found: dict[tuple[str, float], Means]) -> Line:
    """A rule's figures along the scales."""
    return Line(scales, {name: [found[row.title, s][name] for s in scales] for name in FIGURES})


def markdown(found: dict[tuple[str, float], Means], real: dict[str, float | None]) -> Iterator[str]:
    """A line a rule and scale, a column a figure; with several seeds, the interval's half."""
    names = [name.replace("_", " ") for name in FIGURES]
    yield f"| rule | scale | {' | '.join(['FID', *names[1:]])} |"
    yield "|---|---|" + "---|" * len(FIGURES)
    for (title, scale), means in found.items():
        cells = [_cell(means[name]) for name in FIGURES]
        yield f"| {title.replace('|', '/')} | {scale:g} | {' | '.join(cells)} |"
    yield f"| real | | {' | '.join(_number(real[name]) for name in FIGURES)} |"


def _cell(found: dict[str, Any] | None) -> str:
    if found is None:
        return "-"
    if found["interval"] is None:
        return _number(found["mean"])
    return f"{_number(found['mean'])} ± {found['interval'][1] - found['mean']:.2g}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{max(value, 0):.3g}"


def strips(config: GuidanceSweepConfig, cells: Cells, size: str) -> Iterator[Row]:
    """The first seed's pictures of each rule, all scales side by side."""
    scales = config.columns()
    for row in config.rows():
        images = []
        for scale in scales:
            with Image.open(cells[row.title, scale, config.seeds[0]].picture) as image:
                images.append(enlarged(image.convert("RGB"), min(parse_size(size))))
        yield Row(f"{row.title}: {', '.join(f'{scale:g}' for scale in scales)}", images)

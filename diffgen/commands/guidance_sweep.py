"""``guidance-sweep``: guidance rules against scales, as a table, a plot and a picture grid."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, TypeAlias

from PIL import Image

from diffgen.commands.bench import Bench
from diffgen.commands.cells import Cell, Score, fill_table
from diffgen.commands.evaluate import score_on
from diffgen.commands.sweep_plot import Line, draw_plot
from diffgen.commands.sweeps import Figure, figure, over, real_parts, shown, write_sweep
from diffgen.config.base import parse_size
from diffgen.config.guidance import CFGConfig
from diffgen.config.guidance_sweep import GuidanceSweepConfig, RuleConfig
from diffgen.config.sweep import stem
from diffgen.group import Group
from diffgen.metrics.colour import MEASURES
from diffgen.sampling.sheet import Row, enlarged

FIGURES = ("fid", "precision", "recall", "class_accuracy", *MEASURES)
Cells: TypeAlias = Mapping[tuple[str, float, int], Cell]
"""By the rule's title, the scale and the seed."""
Means: TypeAlias = dict[str, Figure | None]
"""Figures of a rule at a scale, over all seeds; None: not available."""


def guidance_sweep(config: GuidanceSweepConfig) -> None:
    """Fill the cells that are missing, then write table, plot and grid; see ``fill_table``."""

    def scorer(cells: Cells, group: Group) -> Score:
        bench = Bench(next(iter(cells.values())).config, group, real_parts(config.out))
        return partial(score_on, bench)

    fill_table(
        config.out, config.device, partial(sweep_cells, config), scorer, partial(report, config)
    )


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
    lines = {row.title: line(row, scales, found) for row in rows}
    write_sweep(
        config.out,
        sweep,
        markdown(found, real),
        draw_plot(lines, real),
        strips(config, cells, some["size"]),
    )


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
    return {name: over([one[name] for one in of_seeds]) for name in FIGURES}


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
    """A line a rule and scale, a column a figure; with several seeds, the interval."""
    names = [name.replace("_", " ") for name in FIGURES]
    yield f"| rule | scale | {' | '.join(['FID', *names[1:]])} |"
    yield "|---|---|" + "---|" * len(FIGURES)
    for (title, scale), means in found.items():
        cells = [shown(means[name], least=0) for name in FIGURES]
        yield f"| {title.replace('|', '/')} | {scale:g} | {' | '.join(cells)} |"
    yield f"| real | | {' | '.join(shown(figure(real[name]), least=0) for name in FIGURES)} |"


def strips(config: GuidanceSweepConfig, cells: Cells, size: str) -> Iterator[Row]:
    """The first seed's pictures of each rule, all scales side by side."""
    scales = config.columns()
    for row in config.rows():
        images = []
        for scale in scales:
            with Image.open(cells[row.title, scale, config.seeds[0]].picture) as image:
                images.append(enlarged(image.convert("RGB"), min(parse_size(size))))
        yield Row(f"{row.title}: {', '.join(f'{scale:g}' for scale in scales)}", images)

"""``lacon-sweep``: conditions against scales and steps, cell by cell."""

from collections.abc import Mapping
from functools import partial
from typing import TypeAlias

from diffgen.commands.cells import Cell, Score, fill_table
from diffgen.commands.lacon_sweep.aligners import Stored, stored_aligners
from diffgen.commands.lacon_sweep.report import report
from diffgen.commands.lacon_sweep.scorer import Scorer
from diffgen.config.guidance_sweep import stem
from diffgen.config.lacon_sweep import LaconSweepConfig
from diffgen.group import Group

Cells: TypeAlias = Mapping[tuple[str, int, float, int], Cell]
"""By condition, steps, scale and seed; unguided ones, at scale 0, are the same for each."""


def lacon_sweep(config: LaconSweepConfig) -> None:
    """Fill the cells that are missing, then write table, plot and grid; see ``fill_table``."""
    stored: dict[str, Stored] = {}

    def table() -> Cells:
        stored.update(stored_aligners(config))
        return sweep_cells(config, {name: one.digest for name, one in stored.items()})

    def scorer(cells: Cells, group: Group) -> Score:
        first = config.cell(config.steps[0], config.seeds[0], config.conditions)
        return Scorer(stored, first, group, config.out / "cells" / "real.parts")

    fill_table(config.out, config.device, table, scorer, partial(report, config, stored))


def sweep_cells(config: LaconSweepConfig, aligners: Mapping[str, str]) -> Cells:
    """Every cell, whether it is filled or not; ``aligners``: digests, by condition."""
    cells = {}
    for steps in config.every_steps():
        for seed in config.seeds:
            free = config.cell(steps, seed, config.conditions)
            at = f"steps{steps}-seed{seed}"
            for name, digest in aligners.items():
                file = config.out / "cells" / f"unguided-{at}.json"
                cells[name, steps, 0.0, seed] = Cell(file, free, config.pictures)
                for scale in config.columns():
                    late = config.late(name, scale, digest)
                    guided = free.model_copy(update={"conditions": [name], "late": late})
                    file = config.out / "cells" / f"{stem(name)}-{scale:g}-{at}.json"
                    cells[name, steps, scale, seed] = Cell(file, guided, config.pictures)
    return cells

"""``lacon-sweep``: conditions against scales and steps, cell by cell."""

import sys

from diffgen.commands.cells import Cell, Score, fill_table
from diffgen.commands.digests import model_digests
from diffgen.commands.lacon_sweep.finished import Sweep, finished
from diffgen.commands.lacon_sweep.report import Cells, report, trained_on
from diffgen.commands.lacon_sweep.scorer import Scorer
from diffgen.commands.lacon_sweep.wanted import Wanted, read_wanted
from diffgen.commands.remade import training
from diffgen.commands.sweeps import real_parts
from diffgen.config.lacon_sweep import LaconSweepConfig
from diffgen.config.sweep import stem
from diffgen.group import Group


def lacon_sweep(config: LaconSweepConfig) -> None:
    """Fill the cells that are missing, then write table, plot and grid; see ``fill_table``."""
    opened: list[Wanted] = []
    others: list[Sweep] = []

    def table() -> Cells:
        opened.append(read_wanted(config))
        weights = model_digests(config.source, config.vae).weights
        others.extend(finished(config, opened[0].size, weights))
        return sweep_cells(config, opened[0])

    def scorer(_: Cells, group: Group) -> Score:
        if group.main and trained_on(config.reference, training(config.source)):
            print(
                f"reference: {config.reference} is what the model was trained on: neither the "
                "conditions nor the pictures of FID are held out",
                file=sys.stderr,
            )
        some = config.cell(config.steps[0], config.seeds[0], {})
        return Scorer(opened[0], some, group, real_parts(config.out))

    def written(cells: Cells) -> None:
        report(config, opened[0], others, cells)

    fill_table(config.out, config.device, table, scorer, written)


def sweep_cells(config: LaconSweepConfig, wanted: Wanted) -> Cells:
    """Every cell, whether it is filled or not."""
    digests = {name: one.digest for name, one in sorted(wanted.conditions.items())}
    places = [(steps, seed) for steps in config.steps for seed in config.seeds]
    cells = {}
    for steps, seed in places:
        free, at = config.cell(steps, seed, digests), f"steps{steps}-seed{seed}.json"
        for name, one in wanted.conditions.items():
            file = config.out / "cells" / f"unguided-{at}"
            cells[name, steps, 0.0, seed] = Cell(file, free, config.pictures)
            for scale in config.columns():
                late = config.late(name, scale, one.aligner)
                more = {"conditions": {name: digests[name]}, "late": late}
                file = config.out / "cells" / f"{stem(name)}-{scale:g}-{at}"
                cells[name, steps, scale, seed] = Cell(
                    file, free.model_copy(update=more), config.pictures
                )
    return cells

"""``joint-eval``: ways of drawing against conditions, cell by cell."""

import sys
from pathlib import Path

from diffgen.commands.cells import Cell, Score, fill_table
from diffgen.commands.digests import model_digests
from diffgen.commands.joint_eval.modules import FILES, held_out
from diffgen.commands.joint_eval.report import NAME, SCHEMA, Cells, report
from diffgen.commands.joint_eval.scorer import Scorer
from diffgen.commands.lacon_sweep.finished import Sweep, finished
from diffgen.commands.lacon_sweep.wanted import Wanted, files_digest, wanted_of
from diffgen.commands.sweeps import real_parts
from diffgen.config.joint_eval import How, JointEvalConfig
from diffgen.config.stored import read_json
from diffgen.config.sweep import stem
from diffgen.errors import UserError
from diffgen.group import Group
from diffgen.lacon.conditions import Condition
from diffgen.lacon.load import ending


def joint_eval(config: JointEvalConfig) -> None:
    """Fill the cells that are missing, then write table and grid; see ``fill_table``."""
    opened: list[Wanted] = []
    others: list[Sweep] = []

    def table() -> Cells:
        opened.append(read_joint(config))
        weights = model_digests(config.source, config.vae).weights
        others.extend(finished(config, opened[0].size, weights, f"{NAME}.json", SCHEMA))
        return joint_cells(config, opened[0])

    def scorer(_: Cells, group: Group) -> Score:
        if group.main and not held_out(config, opened[0]):
            print(
                f"reference: {config.reference} is what the model, or something beside it, was "
                "trained on: neither the conditions nor the pictures of FID are held out",
                file=sys.stderr,
            )
        return Scorer(config, opened[0], group, real_parts(config.out))

    def written(cells: Cells) -> None:
        report(config, opened[0], others, cells)

    fill_table(config.out, config.device, table, scorer, written)


def read_joint(config: JointEvalConfig) -> Wanted:
    """The maps of the pictures, and the folders of the adapters.

    Raises:
        UserError: see ``wanted_of``; an adapter is missing, or what it is compared with.
    """

    def folder(condition: Condition) -> Path:
        name, place = condition.name, config.folder("given", condition.name)
        missing = f"{place} holds no adapter; train/joint.py trains one"
        read_json(place / "adapter" / "config.json", "conditions", missing)
        for told in config.missing_channels(name) if "channels" in config.baselines else ():
            raise UserError(told)
        if "lacon" in config.baselines:
            aligner = config.folder("lacon", name)
            missing = f"{aligner} holds no aligner; train/lacon.py trains one"
            stated = read_json(aligner / "aligner" / "config.json", "baselines", missing)
            ending(stated, None, "baselines", aligner)  # refuses what cannot act
        return place

    return wanted_of(config.cell("base", config.seeds[0], {}, {}), config.conditions, folder)


def joint_cells(config: JointEvalConfig, wanted: Wanted) -> Cells:
    """Every cell, whether it is filled or not."""
    maps = {name: one.digest for name, one in wanted.conditions.items()}
    pair = config.conditions[:2] if len(config.conditions) > 1 else []
    cells = {}

    def add(how: How, names: list[str], measured: list[str]) -> None:
        own = {name: wanted.conditions[name].condition.name for name in names}
        modules = {
            name: files_digest(config.folder(how, of) / FILES[how]) for name, of in own.items()
        }
        for seed in config.seeds:
            title = f"{'+'.join(map(stem, names))}-{how}" if names else how
            file = config.out / "cells" / f"{title}-seed{seed}.json"
            digests = {name: maps[name] for name in sorted(measured)}
            cell = Cell(file, config.cell(how, seed, modules, digests), config.pictures)
            cells[how, tuple(names), seed] = cell

    add("base", [], config.conditions)
    for name in config.conditions:
        add("given", [name], pair if name in pair else [name])
        add("joint", [name], [name])
        for baseline in config.baselines:
            add(baseline, [name], [name])
    if pair:
        add("given", pair, pair)
    return cells

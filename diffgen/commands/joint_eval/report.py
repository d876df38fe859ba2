"""What the evaluation leaves: a table, a picture grid, and if wanted a claim."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from PIL import Image

from diffgen.commands.cells import Cell
from diffgen.commands.joint_eval.evidence import claim
from diffgen.commands.joint_eval.modules import budget, held_out, modules
from diffgen.commands.joint_eval.table import FIXED, markdown, row_figures
from diffgen.commands.lacon_sweep.finished import Sweep
from diffgen.commands.lacon_sweep.wanted import AGAIN, Wanted
from diffgen.commands.remade import line, line_beside, model_line, model_name, training
from diffgen.commands.sweeps import over_seeds, write_sweep
from diffgen.config.base import parse_size
from diffgen.config.joint import JointConfig
from diffgen.config.joint_eval import How, JointEvalConfig
from diffgen.config.lacon import LaconConfig
from diffgen.data.pixels import to_pil, to_uint8
from diffgen.evidence import write_evidence
from diffgen.joint.maps import as_picture
from diffgen.sampling.sheet import Row, enlarged

SCHEMA, NAME = "diffgen-joint-eval/1", "joint"
Cells: TypeAlias = Mapping[tuple[How, tuple[str, ...], int], Cell]
"""By how images are drawn, of which conditions, and seed."""


def report(config: JointEvalConfig, wanted: Wanted, others: Sequence[Sweep], cells: Cells) -> None:
    """Write everything; the table is printed too. ``others``: evaluations of other models."""
    sweep = summary(config, wanted, cells)
    grid = rows(config, wanted, cells)
    write_sweep(config.out, sweep, markdown(sweep), None, grid, NAME)
    if config.evidence is not None:
        own = json.loads(json.dumps(sweep))  # as the others are
        found = write_evidence(config.evidence, claim([own, *others]))
        print(f"claim {config.evidence}: {found.verdict}")


def summary(config: JointEvalConfig, wanted: Wanted, cells: Cells) -> dict[str, Any]:
    """What joint.json holds."""
    trained, seeds = training(config.source), config.seeds
    contents = {place: cell.content() or {} for place, cell in cells.items()}
    some = contents["base", (), seeds[0]]
    table = []
    for how, names, _ in [place for place in cells if place[2] == seeds[0]]:
        every = [contents[how, names, seed] for seed in seeds]
        for condition, found in every[0]["measured"]["rows"].items():
            for row in found:
                of_seeds = [row_figures(content, condition, row) for content in every]
                figures = of_seeds[0] if row in FIXED else over_seeds(of_seeds)
                place = {"condition": condition, "row": row}
                table.append({**place, "seeds": of_seeds, "figures": figures})
    return {
        "schema": SCHEMA,
        "settings": config.model_dump(mode="json"),
        **{name: some[name] for name in ("size", "counts", "weights", "labels", "processes")},
        "model": model_name(config.source),
        "training_seed": trained.get("seed"),
        "held_out": held_out(config, wanted),
        "budgets": [
            {"condition": one.condition, "kind": one.kind, **budget(one)}
            for one in modules(config, wanted)
        ],
        "commands": list(commands(config, wanted)),
        "conditions": {
            name: {
                "figure": one.condition.fidelity.name,
                "higher": one.condition.fidelity.higher,
                "read_by": one.read_by,
            }
            for name, one in wanted.conditions.items()
        },
        "pair": config.conditions[:2] if len(config.conditions) > 1 else [],
        "again": min(AGAIN, len(wanted.pictures)),
        "steps": config.steps,
        "seeds": seeds,
        "rows": table,
        "intervals": intervals(config),
    }


def intervals(config: JointEvalConfig) -> str:
    """What the table's intervals are, in words."""
    if len(config.seeds) > 1:
        return "95 %, by Student's t over seeds, where nothing is drawn over pictures"
    scores = "by Wilson for class accuracy"
    if config.intervals:
        scores = f"by the jackknife for FID, precision and recall, {scores}"
    return f"95 %, over images, by Student's t for what is measured of maps, {scores}"


def commands(config: JointEvalConfig, wanted: Wanted) -> Iterator[str]:
    """What trains the model and everything beside it, and draws it again, one after the other."""
    source = config.source
    model = model_name(source)
    yield from model_line(source)
    for name, one in wanted.conditions.items():
        own = one.condition.name
        words = ["train/joint.py", model, "--pair", name]
        yield line_beside(words, one.folder, name, JointConfig(source=source))
        if "lacon" in config.baselines:
            lacon = ["train/lacon.py", model, "--condition", name]
            folder = config.folder("lacon", own)
            yield line_beside(lacon, folder, name, LaconConfig(source=source))
        if "channels" in config.baselines:
            folder = config.folder("channels", own)
            words += ["--method", "channels"]
            yield line_beside(words, folder, name, JointConfig(source=source))
    words = ["eval/joint.py", model, "--out", config.out.name]
    yield line(words, config.model_dump(mode="json"), JointEvalConfig(source=""))


def rows(config: JointEvalConfig, wanted: Wanted, cells: Cells) -> Iterator[Row]:
    """The base's images, and of each condition everything that is drawn, of the first seed."""
    count, seed, side = config.pictures, config.seeds[0], min(parse_size(wanted.size))

    def strip(title: str, pictures: torch.Tensor) -> Row:
        one = to_pil(torch.cat(list(pictures[:count]), dim=-1)[None])[0]
        return Row(title, [enlarged(one, side)])

    def shown(how: How, names: tuple[str, ...], *titles: str) -> Iterator[Row]:
        with Image.open(cells[how, names, seed].picture) as image:
            found = image.convert("RGB")
        height = found.height // len(titles)
        for k, title in enumerate(titles):
            part = found.crop((0, k * height, found.width, (k + 1) * height))
            yield Row(title, [enlarged(part, side)])

    yield strip("held-out pictures", wanted.pictures)
    yield from shown("base", (), "base, without a map")
    for name, one in wanted.conditions.items():
        told, own = f"{name}: ", (name,)
        yield strip(told + "the pictures' maps", to_uint8(as_picture(one.maps, one.condition)))
        yield from shown("given", own, told + "images from maps", told + "maps from pictures")
        yield from shown("joint", own, told + "images drawn with maps", told + "their maps")
        if "lacon" in config.baselines:
            yield from shown("lacon", own, told + "images under the late constraint")
        if "channels" in config.baselines:
            yield from shown("channels", own, told + "images from maps as channels")
    if len(config.conditions) > 1:
        pair = (config.conditions[0], config.conditions[1])
        yield from shown("given", pair, f"images from {' and '.join(pair)}")

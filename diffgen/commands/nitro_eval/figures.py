"""The figures of finished rows, and what their trainings took: what nitro.json holds."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from diffgen.commands.joint_eval.modules import seconds
from diffgen.commands.lacon_sweep.table import Figures, over_seeds
from diffgen.commands.nitro.scores import distance
from diffgen.commands.nitro_eval.remade import commands, model_name, training
from diffgen.commands.nitro_eval.rows import Row
from diffgen.commands.nitro_eval.trainings import REGRESSIONS
from diffgen.commands.sweeps import figure
from diffgen.config.nitro_eval import NitroEvalConfig

SCHEMA = "diffgen-nitro-eval/1"
SCORES = (
    *("fid", "fid_infinity", "precision", "recall", "density", "coverage"),
    "class_accuracy",
)
Summary: TypeAlias = dict[str, Any]
"""What nitro.json holds."""


def summary(config: NitroEvalConfig, weights: str, rows: Sequence[Row]) -> Summary | None:
    """Of finished ``rows``; None: none of them has figures. ``weights``: digest of the teacher."""
    names = dict.fromkeys(row.name for row in rows if row.cells)
    if not names:
        return None
    lines = [line for name in names for line in _lines([row for row in rows if row.name == name])]
    some = next(cell.content() or {} for row in rows for cell in row.cells.values())
    floor = some["floor"]["scores"] if some["floor"] else {}
    return {
        "schema": SCHEMA,
        "settings": config.model_dump(mode="json"),
        "model": model_name(config),
        "teacher_seed": training(config).get("seed"),
        "weights": weights,
        **{name: some[name] for name in ("size", "counts", "labels", "processes")},
        "real": {name: figure(floor.get(name)) for name in SCORES},
        "rows": lines,
        "commands": list(commands(config)),
        "intervals": "95 %: of several seeds Student's t over them, else by the jackknife",
    }


def _lines(rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
    """A line of the table a number of steps, of one row's seeds."""
    for steps in rows[0].cells:
        contents = [row.cells[steps].content() or {} for row in rows]
        of_seeds = [_figures(content) for content in contents]
        yield {
            "row": rows[0].name,
            "steps": steps,
            "seeds": [row.seed for row in rows],
            "trainings": [facts(row) for row in rows],
            "of_seeds": of_seeds,
            "figures": over_seeds(of_seeds, SCORES),
        }


def _figures(content: dict[str, Any]) -> Figures:
    scores, intervals = content["scores"], content["intervals"]
    return {name: figure(scores.get(name), intervals.get(name)) for name in SCORES}


def facts(row: Row) -> dict[str, Any] | None:
    """What the stage that is scored took, and which of its checkpoints that is; None: nothing.

    Seconds are None where the log does not tell, or the training lies no longer there.
    """
    if row.training is None:
        return None
    out = row.training.out
    assert out is not None
    if row.name in REGRESSIONS:
        images = row.training.regression.train.images
        return {"images": images, "seconds": seconds(out / "regression"), "best": None}
    return {
        "images": row.training.train.images,
        "seconds": seconds(out),
        "best": best(out / "scores.jsonl"),
    }


def best(file: Path) -> dict[str, Any]:
    """The line of the checkpoint that became the pipeline."""
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    found: dict[str, Any] = min(lines, key=distance)
    return found

"""The figures of finished rows, and what their trainings took: what nitro.json holds."""

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

from diffgen.commands.nitro.scores import Scores
from diffgen.commands.nitro_eval.remade import commands
from diffgen.commands.nitro_eval.rows import Row
from diffgen.commands.nitro_eval.stopped import stopped
from diffgen.commands.nitro_eval.trainings import REGRESSIONS
from diffgen.commands.remade import model_name, training
from diffgen.commands.sweeps import Figures, figure, over_seeds
from diffgen.commands.training_time import seconds
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
        "model": model_name(config.source),
        "teacher_seed": training(config.source).get("seed"),
        "weights": weights,
        **{name: some[name] for name in ("size", "counts", "labels", "processes")},
        "real": {name: figure(floor.get(name)) for name in SCORES},
        "rows": lines,
        "commands": list(commands(config)),
        "intervals": "95 %: of several values Student's t over them, else by the jackknife",
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
            "noise": [row.noise for row in rows],
            "trainings": [facts(row) for row in rows],
            "of_seeds": of_seeds,
            "figures": over_seeds(of_seeds),
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
        took = seconds(out / "regression")
        return {"images": images, "seconds": took, "best": None, "stopped": None}
    return {
        "images": row.training.train.images,
        "seconds": seconds(out),
        "best": Scores(out).best(),
        "stopped": stopped(out),
    }

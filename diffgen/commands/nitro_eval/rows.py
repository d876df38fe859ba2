"""The rows of the table: what is trained for each, and its evaluations."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from diffgen.commands.cells import Cell
from diffgen.commands.nitro_eval.trainings import FIRST, REGRESSIONS, SEVERAL, student_of
from diffgen.commands.origins import origin_of
from diffgen.config.evaluate import EvaluateConfig
from diffgen.config.nitro import NitroConfig
from diffgen.config.nitro_eval import ROWS, NitroEvalConfig, RowName
from diffgen.config.source import Source

SHOWN = 8
"""Pictures of an evaluation that are kept."""


@dataclass(frozen=True)
class Row:
    """A row of one seed."""

    name: RowName
    seed: int | None
    """Of its training; None: nothing is trained."""
    training: NitroConfig | None
    cells: Mapping[int, Cell]
    """Evaluations by steps, ascending."""

    @property
    def title(self) -> str:
        """Its name and seed."""
        return self.name if self.seed is None else f"{self.name}, seed {self.seed}"

    def missing(self) -> list[Cell]:
        """Evaluations that are not there, or not of the student that lies there."""
        return [one for one in self.cells.values() if not one.up_to_date(origin_of(one.config))]


def rows_of(config: NitroEvalConfig, source: Source) -> list[Row]:
    """All rows, in the order in which they are made.

    The first that is trained makes pairs and regression, whether it was asked for or not.
    """
    rows = list(_untrained(config))
    names = [name for name in ROWS if name in config.rows and name not in ("teacher", "plain")]
    if names and FIRST not in names:
        names.insert(0, FIRST)
    for name in names:
        if name == config.heads.loss:
            continue  # it is the row pool
        for seed in config.seeds if name in SEVERAL else config.seeds[:1]:
            rows.append(_trained(config, name, seed, source))
    return rows


def _untrained(config: NitroEvalConfig) -> Iterator[Row]:
    for name, steps in (("teacher", (config.teacher_steps,)), ("plain", config.counts)):
        if name in config.rows:
            cells = {n: _cell(config, f"{name}-{n}", config.of_teacher(n)) for n in steps}
            yield Row(name, None, None, cells)


def _trained(config: NitroEvalConfig, name: RowName, seed: int, source: Source) -> Row:
    training = student_of(config, name, seed, source)
    pipeline = scored_pipeline(name, training)
    steps = config.counts if name in (FIRST, "student") else (1,)
    cells = {
        n: _cell(config, f"{name}-{seed}-{n}", config.of_student(pipeline, n))
        for n in (steps if name in config.rows else ())
    }
    return Row(name, seed, training, cells)


def scored_pipeline(name: RowName, training: NitroConfig) -> Path:
    """The folder that a row's training leaves and that is scored."""
    assert training.out is not None
    return training.out / ("regression/pipeline" if name in REGRESSIONS else "pipeline")


def _cell(config: NitroEvalConfig, stem: str, evaluation: EvaluateConfig) -> Cell:
    return Cell(config.out / "cells" / f"{stem}.json", evaluation, SHOWN)

"""The rows of the table: what is trained for each, and its evaluations."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from diffgen.commands.cells import Cell
from diffgen.commands.nitro_eval.heads import is_pool
from diffgen.commands.nitro_eval.trainings import FIRST, REGRESSIONS, SEVERAL, student_of
from diffgen.commands.origins import origin_of
from diffgen.config.evaluate import EvaluateConfig
from diffgen.config.nitro import NitroConfig
from diffgen.config.nitro_eval import ROWS, NitroEvalConfig, RowName
from diffgen.config.source import Source
from diffgen.errors import UserError

UNTRAINED: tuple[RowName, ...] = ("teacher", "plain")
SHOWN = 8
"""Pictures of an evaluation that are kept."""


@dataclass(frozen=True)
class Row:
    """One value of a row: of one training, and of one noise."""

    name: RowName
    seed: int | None
    """Of its training; None: nothing is trained."""
    noise: int
    """Seed of the noise that its images are drawn from."""
    training: NitroConfig | None
    cells: Mapping[int, Cell]
    """Evaluations by steps, ascending."""

    @property
    def title(self) -> str:
        """Its name, seed and noise."""
        seed = "" if self.seed is None else f", seed {self.seed}"
        return f"{self.name}{seed}, noise {self.noise}"

    def missing(self) -> list[Cell]:
        """Evaluations that are not there, or not of the student that lies there."""
        return [one for one in self.cells.values() if not one.up_to_date(origin_of(one.config))]


def rows_of(config: NitroEvalConfig, source: Source) -> list[Row]:
    """All rows, in the order in which they are made.

    The first that is trained makes pairs and regression, whether it was asked for or not.

    Raises:
        UserError: all that were asked for would be trained as the row pool is.
    """
    rows = list(_untrained(config))
    asked = [name for name in ROWS if name in config.rows and name not in UNTRAINED]
    names = [name for name in asked if not is_pool(config.heads, name, source)]
    if asked and not names and not rows:
        raise UserError(f"rows: {', '.join(asked)} would be as the row pool is; give that")
    if names and FIRST not in names:
        names.insert(0, FIRST)
    for name in names:
        for number, seed in enumerate(config.seeds if name in SEVERAL else config.seeds[:1]):
            rows += _trained(config, name, seed, number, source)
    return rows


def _untrained(config: NitroEvalConfig) -> Iterator[Row]:
    """The teacher, from every noise."""
    for name, steps in ((UNTRAINED[0], (config.teacher_steps,)), (UNTRAINED[1], config.counts)):
        for noise in noises(config) if name in config.rows else ():
            cells = {
                n: _cell(config, f"{name}-{n}-{noise}", config.of_teacher(n, noise)) for n in steps
            }
            yield Row(name, None, noise, None, cells)


def _trained(
    config: NitroEvalConfig, name: RowName, seed: int, number: int, source: Source
) -> Iterator[Row]:
    """A student of one seed, which is drawn from its noise, or the regression's from every one."""
    training = student_of(config, name, seed, source)
    pipeline = scored_pipeline(name, training)
    steps = config.counts if name in (FIRST, "student") else (1,)
    for noise in noises(config) if name == FIRST else [config.seed + number]:
        cells = {
            n: _cell(config, f"{name}-{seed}-{n}-{noise}", config.of_student(pipeline, n, noise))
            for n in (steps if name in config.rows else ())
        }
        yield Row(name, seed, noise, training, cells)
        if not cells:
            return


def noises(config: NitroEvalConfig) -> list[int]:
    """Seeds of the images' noise, one for each seed of the students."""
    return [config.seed + number for number in range(len(config.seeds))]


def scored_pipeline(name: RowName, training: NitroConfig) -> Path:
    """The folder that a row's training leaves and that is scored."""
    assert training.out is not None
    return training.out / ("regression/pipeline" if name in REGRESSIONS else "pipeline")


def _cell(config: NitroEvalConfig, stem: str, evaluation: EvaluateConfig) -> Cell:
    return Cell(config.out / "cells" / f"{stem}.json", evaluation, SHOWN)

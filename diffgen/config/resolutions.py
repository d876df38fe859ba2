"""The configuration of ``eval/resolutions.py``."""

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import Field
from pydantic_settings import CliPositionalArg

from diffgen.config.base import Size, parse_size
from diffgen.config.evaluate import EvaluateConfig
from diffgen.config.positions import PositionOverrides
from diffgen.config.sampling import Device, Dtype, SamplingConfig, TimeShift
from diffgen.config.scoring import ScoringConfig
from diffgen.config.source import resolve, size_problems
from diffgen.config.train import unwritable
from diffgen.errors import UserError


class RowConfig(PositionOverrides):
    """A row of the table: a model, and how it is drawn at other sizes than trained."""

    source: str
    """Run folder, pipeline folder or hub id of the model."""
    name: str | None = Field(default=None, max_length=100, pattern=r"^[^\n]+$")
    """Title of the row [at most 100 characters]; none: the source's name."""
    time_shift: TimeShift | None = None
    """Shift of a flow's noise levels; none: as for all rows."""

    @property
    def title(self) -> str:
        """``name``, or the source's and the overrides."""
        given = [str(getattr(self, name)) for name in OVERRIDES if getattr(self, name) is not None]
        return self.name or " ".join([Path(self.source).name, *given])

    @property
    def stem(self) -> str:
        """``title``, fit for a file."""
        return re.sub(r"[^\w.+-]+", "_", self.title)[:LONGEST_STEM]


LONGEST_STEM = 150  # of a file's name [characters]
READABLE = 16  # the reader's shortest side [pixels]
OVERRIDES = (*PositionOverrides.model_fields, "time_shift")


class ResolutionsConfig(SamplingConfig, ScoringConfig):
    """Score models at several sizes: a row a model, a column a size, beside the real floor.

    Cells that are there already are kept: the same command goes on where it was stopped.
    """

    runs: CliPositionalArg[list[str]] = Field(default=[])
    """Run folders, pipeline folders or hub ids, a row each."""
    rows: list[RowConfig] = Field(default=[])
    """Further rows, in a file: source, and if wanted name, scaling, temperature, inference,
    time_shift."""
    sizes: list[Size] = Field(default=[])
    """HEIGHTxWIDTH of the columns [pixels]; none: 3/4, 1, 1.5 and 2 times the size of the first
    model, and both shapes of 1 to 2, as far as every model can be drawn and read at them."""
    reference: str = "shapes"
    """Real images at each size: shapes or digits (held out), a folder, which is cropped, or files
    of eval/reference.py, in whose name {size} stands for HEIGHTxWIDTH: ref-{size}.npz."""
    num_images: int = Field(default=256, ge=8)
    """Images drawn a cell, and real ones [count]."""
    pictures: int = Field(default=4, ge=1, le=64)
    """Images of every cell that the picture grid shows, the first ones [count]."""
    seed: int = Field(default=0, ge=0)
    """Image k of every cell starts from the noise of (seed, k)."""
    device: Device = "auto"
    """Where to compute; auto: a GPU if there is one."""
    dtype: Dtype = "fp32"
    """Arithmetic of the models; bf16 needs a GPU."""
    out: Path = Path("resolutions")
    """Folder for table.json, table.md, grid.png and the cells."""

    def every_row(self) -> list[RowConfig]:
        """The rows of both fields."""
        return [RowConfig(source=run) for run in self.runs] + list(self.rows)

    def cell(self, row: RowConfig, size: Size | None) -> EvaluateConfig:
        """The evaluation that fills a cell; without a size: at the model's own."""
        shared = (*ScoringConfig.model_fields, "seed", "device", "dtype")
        settings: dict[str, Any] = {name: getattr(self, name) for name in shared}
        for name in SamplingConfig.model_fields:
            if (own := getattr(row, name, None)) is not None:
                settings[name] = own
            elif name in self.model_fields_set:  # what is not given, a distilled model fills itself
                settings[name] = getattr(self, name)
        settings["reference"] = self.reference.replace("{size}", size or row_size(row))
        return EvaluateConfig(source=row.source, size=size, **settings)

    def columns(self) -> list[Size]:
        """The sizes asked for, or those that suit the models.

        Raises:
            UserError: there is no such model.
        """
        if self.sizes:
            return list(dict.fromkeys(self.sizes))
        models = [resolve(row.source) for row in self.every_row()]
        step = math.lcm(*(model.factor * model.patch_size for model in models))
        scales = [(0.75, 0.75), (1.0, 1.0), (1.5, 1.5), (2.0, 2.0), (1.0, 2.0), (2.0, 1.0)]
        sides = [
            tuple(
                step * max(1, round(scale * side / step))
                for scale, side in zip(pair, models[0].sample_size, strict=True)
            )
            for pair in scales
        ]
        sizes = dict.fromkeys(f"{pair[0]}x{pair[1]}" for pair in sides if min(pair) >= READABLE)
        return [s for s in sizes if not any(any(size_problems("", [s], m)) for m in models)]

    def problems(self) -> Iterator[str]:
        """Yield mistakes of any row at any size, and on the disk."""
        rows = self.every_row()
        stems = [row.stem for row in rows]
        if not rows:
            yield "runs: give at least one model"
        for stem in dict.fromkeys(s for s in stems if stems.count(s) > 1):
            yield f"rows: two are called {stem!r}; give one a name"
        yield from unwritable("out", self.out)
        yield from self._column_problems()
        told: set[str] = set()
        for row in rows:
            every: list[Size | None] = [*self.sizes] or [None]
            for size in every:
                cell = self.cell(row, size)
                for problem in cell.problems():
                    if problem not in told:
                        told.add(problem)
                        yield problem if len(rows) == 1 else f"{row.title}: {problem}"

    def _column_problems(self) -> Iterator[str]:
        for size in self.sizes:
            if min(parse_size(size)) < READABLE:
                yield f"sizes: {size} is too small; the reader needs {READABLE} pixels a side"
        try:
            if self.every_row() and not self.columns():
                yield "sizes: none of the default ones suits every model; give them"
        except UserError:
            return  # the row's own complaint tells it


def row_size(row: RowConfig) -> Size:
    """HEIGHTxWIDTH a row's model was trained at; "" where there is no such model."""
    try:
        return "{}x{}".format(*resolve(row.source).sample_size)
    except UserError:  # its own complaint tells it
        return ""

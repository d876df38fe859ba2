"""The configuration of ``eval/compare.py``."""

from collections.abc import Iterator
from pathlib import Path

from pydantic import Field
from pydantic_settings import CliPositionalArg

from diffgen.config.base import Section
from diffgen.config.train import unwritable


class CompareConfig(Section):
    """Compare saved evaluations: a table for each set of them whose figures may be compared.

    Evaluations that differ in the seed alone become one row, with intervals over seeds.
    """

    files: CliPositionalArg[list[Path]] = Field(default=[])
    """JSON files of evaluations; the others are compared with the first of their table."""
    figures: list[str] = Field(default=[])
    """Columns by their names in JSON, for example fid,precision; none: all there are."""
    out: Path | None = None
    """File for the tables, .md or .json; none: they are only printed."""

    def problems(self) -> Iterator[str]:
        """Yield too few files, files that are none, and an output that cannot be."""
        if len(self.files) < 2:
            yield f"files: a comparison needs two evaluations or more, got {len(self.files)}"
        places = [file.resolve() for file in self.files]
        for file, place in zip(self.files, places, strict=True):
            if not file.is_file():
                yield f"files: {file} is not a file"
            elif places.count(place) > 1:
                yield f"files: {file} is given twice"
        if self.out is None:
            return
        if self.out.suffix not in (".md", ".json"):
            yield f"out: {self.out} must end in .md or .json"
        elif self.out.is_dir() or self.out.resolve() in places:
            kind = "a folder" if self.out.is_dir() else "one of the evaluations"
            yield f"out: {self.out} is {kind}; name another file"
        else:
            yield from unwritable("out", self.out.parent)

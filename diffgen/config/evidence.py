"""The configuration of ``eval/evidence.py``."""

from collections.abc import Iterator
from pathlib import Path

from pydantic import Field
from pydantic_settings import CliPositionalArg

from diffgen.config.base import Section


class EvidenceConfig(Section):
    """Compute the verdicts of claims again from their values, and compare with what they state."""

    files: CliPositionalArg[list[Path]] = Field(default=[])
    """Documents of claims, such as docs/evidence/*.json."""

    def problems(self) -> Iterator[str]:
        """Yield files that are none."""
        if not self.files:
            yield "files: give at least one, such as docs/evidence/*.json"
        for file in self.files:
            if not file.is_file():
                yield f"files: {file} is not a file"

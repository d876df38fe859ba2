"""The teacher that all in a student's folder comes from, told by its weights."""

from pathlib import Path

from diffgen.config.nitro_fit import ORIGIN, PAIRS
from diffgen.config.stored import read_json
from diffgen.errors import UserError
from diffgen.files import write_json


def check_origin(folder: Path, source: str, teacher: str) -> None:
    """Raise UserError if anything in ``folder`` comes from another teacher than ``source``.

    ``teacher``: its fingerprint. The pairs tell it too, but may have been removed.
    """
    for file in (folder / ORIGIN, folder / PAIRS):
        if file.exists() and read_json(file, "out", f"{file} is gone").get("teacher") != teacher:
            raise UserError(
                f"source: {source} is another model than {folder} was distilled from, or has other "
                "weights by now; choose another --out, or remove the whole folder"
            )


def note_origin(folder: Path, teacher: str) -> None:
    """Keep it for later."""
    write_json(folder / ORIGIN, {"teacher": teacher})

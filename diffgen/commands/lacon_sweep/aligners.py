"""The conditions of a sweep, and the aligner of each."""

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from diffgen.config.lacon_sweep import LaconSweepConfig
from diffgen.errors import UserError
from diffgen.lacon.aligner import Aligner
from diffgen.lacon.conditions import Condition
from diffgen.lacon.load import load_aligner
from diffgen.lacon.named import condition_named, folder_name
from diffgen.models.dit import DiT


class Stored(NamedTuple):
    """A condition, and its aligner on the disk."""

    condition: Condition
    folder: Path
    digest: str
    """sha256 of the aligner's files."""


def stored_aligners(config: LaconSweepConfig) -> dict[str, Stored]:
    """By the names that ``config`` gives conditions.

    Raises:
        UserError: an unknown condition, two of one name, or one without an aligner.
    """
    found: dict[str, Stored] = {}
    for name in config.conditions:
        condition = condition_named(name, "conditions")
        folder = config.aligner_folder() / folder_name(condition.name)
        if not (folder / "aligner" / "config.json").is_file():
            raise UserError(config.no_aligner(name, folder))
        if any(condition.name == other.condition.name for other in found.values()):
            raise UserError(f"conditions: two are called {condition.name!r}; give one a name")
        found[name] = Stored(condition, folder, aligner_digest(folder / "aligner"))
    return found


def aligner_digest(folder: Path) -> str:
    """Of every file: a trained one differs from all others."""
    digest = sha256()
    for file in sorted(path for path in folder.iterdir() if path.is_file()):
        digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()


def open_aligners(stored: Mapping[str, Stored], model: DiT) -> dict[str, Aligner]:
    """The aligners of ``model``, by the same names.

    Raises:
        UserError: one is damaged, of another model or of another condition.
    """
    aligners = {}
    for name, (condition, folder, _) in stored.items():
        aligner = load_aligner(folder, model, "conditions")
        reads = (aligner.config.condition, aligner.config.channels)
        if reads != (condition.name, condition.channels):
            raise UserError(
                f"conditions: the aligner in {folder} reads {reads[0]} ({reads[1]} channels), not "
                f"{condition.name} ({condition.channels})"
            )
        aligners[name] = aligner
    return aligners

"""The configuration of ``diffgen status``, and what kind of run a folder holds."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, Field
from pydantic_settings import CliPositionalArg

from diffgen.config.base import Section
from diffgen.config.command_line import read_yaml
from diffgen.config.stored import read_json
from diffgen.errors import UserError

Kind = Literal["train", "lacon", "joint", "nitro", "prepare"]
OWN: dict[Kind, tuple[str, ...]] = {
    "nitro": ("pairs", "regression", "train"),
    "lacon": ("condition", "train"),
    "joint": ("pair", "train"),
    "train": ("model", "process", "train"),
}
"""Sections of config.yaml that tell the commands apart, the first that has all of its own."""


class StatusConfig(Section):
    """Tell where a run stands: a training, finished or not, or latents being prepared."""

    model_config = ConfigDict(serialize_by_alias=True)

    run: CliPositionalArg[Path]
    """Folder of the run."""
    as_json: bool = Field(default=False, alias="json")
    """Print one JSON object instead of lines to read."""

    def problems(self) -> Iterator[str]:
        """Yield a folder that is no run."""
        try:
            kind_of_run(self.run, "run")
        except UserError as error:
            yield str(error)


def kind_of_run(folder: Path, field: str) -> Kind:
    """The command whose run ``folder`` is.

    Raises:
        UserError: it is none, or its settings cannot be read; ``field`` named it.
    """
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise UserError(f"{field}: {folder} {what}; give the folder of a run")
    if (folder / "config.yaml").exists():
        settings = settings_of(folder)
        for kind, sections in OWN.items():
            if all(section in settings for section in sections):
                return kind
    elif is_prepared(folder):
        return "prepare"
    raise UserError(
        f"{field}: {folder} is no run; give a folder that train, lacon, joint, nitro or prepare "
        "wrote"
    )


def settings_of(folder: Path) -> dict[str, Any]:
    """The settings of a training as its folder states them, unchecked.

    Raises:
        UserError: they cannot be read.
    """
    return read_yaml(folder / "config.yaml")


def is_prepared(folder: Path) -> bool:
    """True for a folder of latents, also of unfinished ones."""
    stated = (_stated(folder / name).get("schema") for name in ("index.json", "settings.json"))
    return any(str(schema).startswith("diffgen-latents/") for schema in stated)


def _stated(file: Path) -> dict[str, Any]:
    try:
        return read_json(file, "run", f"{file} is missing")
    except UserError:
        return {}

"""What makes the figures of a command again: commands, and what they name."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from diffgen.config.base import Section
from diffgen.config.beside import BesideConfig
from diffgen.config.command_line import read_yaml
from diffgen.config.places import run_folder
from diffgen.config.source import resolve
from diffgen.config.train import TrainConfig
from diffgen.errors import UserError
from diffgen.evidence.compose import command_line
from diffgen.training.run_folder import flatten

ELSEWHERE = (
    *("out", "source", "condition", "pair", "method", "device", "track", "report", "sampling"),
    *("evidence", "also"),
)
"""Settings, or sections of them, that change no figure, or that the words of a command tell."""


def training(source: str) -> dict[str, Any]:
    """The settings of the run that the model ``source`` is from; {}: it is from none."""
    run = run_folder(resolve(source))
    return read_yaml(run / "config.yaml") if run and (run / "config.yaml").is_file() else {}


def model_name(source: str) -> str:
    """The model ``source`` as commands name it on any machine."""
    run, place = run_folder(resolve(source)), Path(source)
    if run is not None:
        return f"runs/{run.resolve().name}"
    return place.name if place.is_absolute() else source


def model_line(source: str) -> Iterator[str]:
    """What trains the model ``source``, where that is known."""
    if trained := training(source):
        yield line(["train/dit.py", "--out", model_name(source)], trained, TrainConfig())


def line_beside(words: Sequence[str], folder: Path, name: str, default: BesideConfig) -> str:
    """What trains for condition ``name`` that in ``folder``, which lies beside the model."""
    file = folder / "config.yaml"
    given = read_yaml(file) if file.is_file() else {}
    with suppress(UserError):  # there is no run whose pictures would be the default
        if given.get("data") == default.settled(name).data.model_dump(mode="json"):
            del given["data"]
    return line(words, given, default)


def line(words: Sequence[str], settings: Mapping[str, Any], default: Section) -> str:
    """One command."""
    told = {name: value for name, value in settings.items() if name not in ELSEWHERE}
    known = flatten(default.model_dump(mode="json"))
    return command_line(["python", *words], flatten(told), known)

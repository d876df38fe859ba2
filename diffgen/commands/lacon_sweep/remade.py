"""What trains the model and the aligners of a sweep, and draws it again: commands."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from diffgen.commands.lacon_sweep.wanted import Wanted
from diffgen.config.base import Section
from diffgen.config.beside import BesideConfig
from diffgen.config.command_line import read_yaml
from diffgen.config.lacon import LaconConfig
from diffgen.config.lacon_sweep import LaconSweepConfig
from diffgen.config.places import run_folder
from diffgen.config.source import resolve
from diffgen.config.sweep import SweepConfig
from diffgen.config.train import TrainConfig
from diffgen.errors import UserError
from diffgen.evidence.compose import command_line
from diffgen.training.run_folder import flatten

ELSEWHERE = (
    *("out", "source", "condition", "pair", "method", "device", "track", "report", "sampling"),
    *("evidence", "also"),
)
"""Settings, or sections of them, that change no figure, or that the words of a command tell."""


def training(config: SweepConfig) -> dict[str, Any]:
    """The settings of the run the model is from; {}: it is from none."""
    run = run_folder(resolve(config.source))
    return read_yaml(run / "config.yaml") if run and (run / "config.yaml").is_file() else {}


def model_name(config: SweepConfig) -> str:
    """The model as commands name it on any machine."""
    run, place = run_folder(resolve(config.source)), Path(config.source)
    if run is not None:
        return f"runs/{run.resolve().name}"
    return place.name if place.is_absolute() else config.source


def commands(config: LaconSweepConfig, wanted: Wanted) -> Iterator[str]:
    """One after the other, with every setting that is no default."""
    model = model_name(config)
    yield from model_line(config)
    for name, one in wanted.conditions.items():
        words = ["train/lacon.py", model, "--condition", name]
        yield line_beside(words, one.folder, name, LaconConfig(source=config.source))
    words = ["eval/lacon.py", model, "--out", config.out.name]
    yield line(words, config.model_dump(mode="json"), LaconSweepConfig(source=""))


def model_line(config: SweepConfig) -> Iterator[str]:
    """What trains the model, where that is known."""
    if trained := training(config):
        yield line(["train/dit.py", "--out", model_name(config)], trained, TrainConfig())


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

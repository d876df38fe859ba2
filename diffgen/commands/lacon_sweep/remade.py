"""What trains the model and the aligners of a sweep, and draws it again: commands."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from diffgen.commands.lacon_sweep.wanted import Wanted
from diffgen.config.base import Section
from diffgen.config.command_line import read_yaml
from diffgen.config.lacon import LaconConfig
from diffgen.config.lacon_sweep import LaconSweepConfig
from diffgen.config.places import run_folder
from diffgen.config.source import resolve
from diffgen.config.train import TrainConfig
from diffgen.errors import UserError
from diffgen.evidence.compose import command_line
from diffgen.training.run_folder import flatten

ELSEWHERE = (
    *("out", "source", "condition", "device", "track", "report", "sampling"),
    *("evidence", "also"),
)
"""Settings, or sections of them, that change no figure, or that the words of a command tell."""


def training(config: LaconSweepConfig) -> dict[str, Any]:
    """The settings of the run the model is from; {}: it is from none."""
    run = run_folder(resolve(config.source))
    return read_yaml(run / "config.yaml") if run and (run / "config.yaml").is_file() else {}


def model_name(config: LaconSweepConfig) -> str:
    """The model as commands name it on any machine."""
    run, place = run_folder(resolve(config.source)), Path(config.source)
    if run is not None:
        return f"runs/{run.resolve().name}"
    return place.name if place.is_absolute() else config.source


def commands(config: LaconSweepConfig, wanted: Wanted) -> Iterator[str]:
    """One after the other, with every setting that is no default."""
    model, trained = model_name(config), training(config)
    if trained:
        yield line(["train/dit.py", "--out", model], trained, TrainConfig())
    for name, one in wanted.conditions.items():
        file, default = one.folder / "config.yaml", LaconConfig(source=config.source)
        given = read_yaml(file) if file.is_file() else {}
        with suppress(UserError):  # there is no run whose pictures would be the default
            if given.get("data") == default.settled(name).data.model_dump(mode="json"):
                del given["data"]
        yield line(["train/lacon.py", model, "--condition", name], given, default)
    words = ["eval/lacon.py", model, "--out", config.out.name]
    yield line(words, config.model_dump(mode="json"), LaconSweepConfig(source=""))


def line(words: Sequence[str], settings: Mapping[str, Any], default: Section) -> str:
    """One command."""
    told = {name: value for name, value in settings.items() if name not in ELSEWHERE}
    known = flatten(default.model_dump(mode="json"))
    return command_line(["python", *words], flatten(told), known)

"""What trains the teacher and makes the table again: commands."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from diffgen.commands.lacon_sweep.remade import line
from diffgen.config.command_line import read_yaml
from diffgen.config.nitro_eval import NitroEvalConfig
from diffgen.config.places import run_folder
from diffgen.config.source import resolve
from diffgen.config.train import TrainConfig


def training(config: NitroEvalConfig) -> dict[str, Any]:
    """The settings of the teacher's run; {}: it is from none."""
    run = run_folder(resolve(config.source))
    return read_yaml(run / "config.yaml") if run and (run / "config.yaml").is_file() else {}


def model_name(config: NitroEvalConfig) -> str:
    """The teacher as commands name it on any machine."""
    run, place = run_folder(resolve(config.source)), Path(config.source)
    if run is not None:
        return f"runs/{run.resolve().name}"
    return place.name if place.is_absolute() else config.source


def commands(config: NitroEvalConfig) -> Iterator[str]:
    """One after the other, with every setting that is no default."""
    model = model_name(config)
    if trained := training(config):
        yield line(["train/dit.py", "--out", model], trained, TrainConfig())
    given = {**config.model_dump(mode="json"), "commands": False}
    words = ["eval/nitro.py", model, "--out", config.out.name]
    yield line(words, given, NitroEvalConfig(source=""))

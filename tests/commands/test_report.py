"""The commands a finished training offers can be pasted."""

import shlex

import pytest

from diffgen.commands.report import next_commands
from diffgen.config.command_line import parse
from diffgen.config.sample import SampleConfig
from diffgen.config.train import TrainConfig


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["cat", "dog"], ["--classes", "cat,dog"]),
        (["big cat", "dog's"], ["--classes", "big cat,dog's"]),
        (["salt, pepper", "dog"], []),
        (['5" disc', "dog"], []),
        (["-5", "dog"], []),
        (["[a]"], []),
        (["cat ", "dog"], []),
        (["false", "true"], []),
        (["only"], ["--classes", "only"]),
        ([], []),
    ],
)
def test_odd_names_are_quoted(names, expected, monkeypatch):
    config = TrainConfig(out="my runs/a")
    sample, evaluate = next_commands(config, ["32x32", "48x48", "32x64"], names).splitlines()[2:4]
    words = shlex.split(sample)
    assert words[:3] == ["python", "sample/generate.py", "my runs/a"]
    assert words[3:] == ["--size", "48x48", "--size", "32x64", *expected, "--out", "samples/a"]
    monkeypatch.setattr(SampleConfig, "problems", lambda self: ())  # there is no such model
    read = parse(SampleConfig, words[2:], "sample")
    assert (str(read.source), read.size) == ("my runs/a", ["48x48", "32x64"])
    assert read.classes == (names[:2] if expected else [])
    assert shlex.split(evaluate)[2] == "my runs/a"

"""Short distillations by the command, and everything they leave."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from diffgen.cli import launch
from tests.logs import curve

QUICK = [
    *("--device", "cpu", "--pairs.count", "100", "--pairs.steps", "2", "--pairs.batch-size", "25"),
    *("--regression.train.images", "32", "--regression.train.batch-size", "8"),
    *("--regression.train.log-images", "16", "--regression.train.checkpoint-images", "16"),
    *("--regression.train.sample-images", "0", "--regression.schedule.warmup-images", "0"),
    *("--train.images", "48", "--train.batch-size", "8", "--train.log-images", "24"),
    *("--train.checkpoint-images", "16", "--train.sample-images", "0"),
    *("--schedule.warmup-images", "0", "--score.count", "100", "--score.collapse", "0"),
    *("--heads.refresh", "0.1", "--optimizer.lr", "1e-3"),
]
"""100 pairs, 4 steps of regression, 6 of the second stage; scored at 0, 16, 32 and 48 images."""


def nitro(teacher: Path, *more: str, expect: int = 0) -> None:
    """Distil ``teacher`` in this process."""
    assert launch("nitro", [str(teacher), *QUICK, *more], "nitro") == expect


def scores(out: Path) -> list[dict[str, Any]]:
    """The lines of scores.jsonl."""
    return [json.loads(line) for line in (out / "scores.jsonl").read_text().splitlines()]


def newest(out: Path) -> Path:
    """The last checkpoint of a stage."""
    return sorted((out / "checkpoints").iterdir())[-1]


def tensors(out: Path) -> dict[str, torch.Tensor]:
    """Every tensor of the pairs, of both stages' last checkpoints and of what they exported."""
    places = [out / "pairs"]
    for stage in (out / "regression", out):
        places += [newest(stage), stage / "pipeline/transformer"]
    found = {
        f"{file.relative_to(out)}/{name}": tensor
        for place in places
        for file in sorted(place.glob("*.safetensors"))
        for name, tensor in load_file(file).items()
    }
    for stage in (out / "regression", out):
        state = torch.load(newest(stage) / "optimizer.pt", weights_only=True)
        for i, optimizer in enumerate(state["optimizers"]):
            for key, slots in optimizer["state"].items():
                found |= {f"{stage.name} {i} {key} {slot}": v for slot, v in slots.items()}
    return found


def assert_same(one: Path, other: Path) -> None:
    """Two students are the same bit for bit, heads, averages, logs and scores included."""
    mine, theirs = tensors(one), tensors(other)
    renamed = {name.replace(one.name, other.name): value for name, value in mine.items()}
    assert renamed.keys() == theirs.keys()
    assert any("heads.safetensors/first_reduce" in name for name in renamed)
    assert any("ema-" in name for name in renamed)
    different = [name for name, value in renamed.items() if not torch.equal(value, theirs[name])]
    assert different == []
    assert scores(one) == scores(other)
    for stage in ("regression", "."):
        assert curve(one / stage) == curve(other / stage)
    index = "pipeline/model_index.json"
    assert (one / index).read_text() == (other / index).read_text()

"""A tiny training, and what two runs of it must have in common."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import diffgen.commands.train as command
from diffgen.config.train import TrainConfig
from diffgen.training.checkpoints import Checkpoints
from tests.logs import curve

TWELVE_STEPS: dict[str, Any] = {
    "schedule": {"warmup_images": 32},
    "train": {
        "images": 96,
        "batch_size": 8,
        "log_images": 24,
        "checkpoint_images": 32,
        "sample_images": 0,
    },
}
"""Of a configuration: 96 images, four lines of the log, three checkpoints."""


def changed(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """``base`` with single fields of its sections changed."""
    return base | {
        section: {**base.get(section, {}), **fields} if isinstance(fields, dict) else fields
        for section, fields in changes.items()
    }


def settings(out: Path, **changes) -> TrainConfig:
    """A training of 96 images in 12 steps; ``section={...}`` changes single fields."""
    base = {
        "out": out,
        "device": "cpu",
        "data": {"kind": "shapes", "size": "16x16"},
        "model": {"depth": 1, "hidden_size": 32, "num_heads": 2, "patch_size": 4},
        **TWELVE_STEPS,
        "sampling": {"scheduler": "euler", "steps": 1},
        "report": {"sizes": ["16x16"], "num_images": 0},
    }
    return TrainConfig.model_validate(changed(base, changes))


def newest(out: Path) -> Path:
    path = Checkpoints(out, 2).newest()
    assert path is not None
    return path


def tensors(out: Path) -> dict[str, torch.Tensor]:
    """Every tensor of the newest checkpoint and of the pipeline, by file and name."""
    checkpoint = newest(out)
    flat = {
        f"{file.relative_to(out)}/{name}": tensor
        for folder in (checkpoint, out / "pipeline/transformer")
        for file in sorted(folder.glob("*.safetensors"))
        for name, tensor in load_file(file).items()
    }
    state = torch.load(checkpoint / "optimizer.pt", weights_only=True)
    for i, optimizer in enumerate(state["optimizers"]):
        for key, slots in optimizer["state"].items():
            flat |= {f"optimizer{i}/{key}/{slot}": value for slot, value in slots.items()}
    return flat


def assert_same_tensors(
    mine: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor], more_than: int
) -> None:
    assert mine.keys() == theirs.keys()
    assert len(mine) > more_than
    for name, tensor in mine.items():
        assert torch.equal(tensor, theirs[name]), name


def assert_same_run(one: Path, other: Path) -> None:
    assert curve(one) == curve(other)
    assert_same_tensors(tensors(one), tensors(other), more_than=50)


def coloured(folder: Path, *names: str) -> Path:
    """Four plain 16 x 16 pictures in a class folder of each name."""
    for shade, name in enumerate(names):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(4):
            colour = (60 * shade, 10 * i, 90)
            Image.new("RGB", (16, 16), colour).save(folder / name / f"{i}.png")
    return folder


class Killed(BaseException):
    """As sudden as a signal."""


@contextmanager
def killed_at_a_preview(monkeypatch: pytest.MonkeyPatch, images: int) -> Iterator[None]:
    """A training in the block is killed when it has drawn the preview after so many images."""
    draw_preview = command.draw_preview

    def kill(pipe, sampling, target):
        draw_preview(pipe, sampling, target)
        if str(images) in target.name:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(command, "draw_preview", kill)
        with pytest.raises(Killed):
            yield

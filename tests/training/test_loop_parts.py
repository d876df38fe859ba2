"""Parts of the losses: summed over steps and checkpoints, and logged as means by name."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import nn

from diffgen.config.ema import ConstantEMAConfig
from diffgen.config.loop import LoopConfig
from diffgen.config.optimizer import AdamWConfig, ScheduleConfig
from diffgen.data.order import Sample, TrainingData
from diffgen.data.shapes import Shapes
from diffgen.group import Group
from diffgen.training.checkpoint import TrainingState, Window
from diffgen.training.checkpoints import Checkpoints
from diffgen.training.ema import EMA
from diffgen.training.loop import Hooks, Loop
from diffgen.training.optimizers import build_optimizers, build_schedules
from diffgen.training.run_folder import RunFolder

BATCH = 4
Parts = Callable[[], Mapping[str, tuple[float, float]]]


def objective(model: nn.Module, batch: Sample) -> torch.Tensor:
    return model(batch["image"]).square().mean()


def train(out: Path, images: int, parts: Parts | None) -> list[dict]:
    """Train to ``images``, logged every 8, saved every 4; the lines of the log."""
    torch.manual_seed(0)
    model = nn.Conv2d(3, 1, 1)
    optimizers = build_optimizers(AdamWConfig(), model)
    schedules = build_schedules(ScheduleConfig(warmup_images=0), optimizers, 16, BATCH)
    state = TrainingState(model, EMA(ConstantEMAConfig(), model), optimizers, schedules)
    newest = Checkpoints(out, 2).newest()
    if newest is not None:
        state.load(newest)
    options = {} if parts is None else {"parts": parts}
    every = {"log_images": 8, "checkpoint_images": 4, "sample_images": 0}
    out.mkdir(exist_ok=True)
    Loop(
        settings=LoopConfig(images=images, batch_size=BATCH, workers=0, **every),
        accelerator=Accelerator(cpu=True),
        group=Group.join(cpu=True),
        data=TrainingData(Shapes(8, 8, "train"), 0),
        model=model,
        objective=objective,
        state=state,
        folder=RunFolder(out),
        hooks=Hooks(sample=lambda state: None),
        **options,
    ).run()
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def counted() -> Parts:
    """At call n: n of one loss called "early", nothing counted of "late"."""
    calls = iter(range(1, 100))
    return lambda: {"early": (float(next(calls)), 1.0), "late": (0.0, 0.0)}


def test_parts_are_logged_as_means_since_the_line_before(tmp_path):
    """They are taken at every checkpoint, here twice a line."""
    first, second = train(tmp_path, 16, counted())
    assert first["losses"] == {"early": 1.5, "late": None}
    assert second["losses"] == {"early": 3.5, "late": None}


def test_a_resumed_training_goes_on_with_the_parts_of_its_checkpoint(tmp_path):
    parts = counted()
    train(tmp_path, 12, parts)  # its end is logged too
    checkpoint = tmp_path / "checkpoints/images-000000012/state.json"
    progress = json.loads(checkpoint.read_text())
    assert progress["window"]["parts"] == {}
    progress["window"] = {"total": 0.5, "steps": 1, "parts": {"early": [10.0, 1.0]}}
    checkpoint.write_text(json.dumps(progress))
    assert train(tmp_path, 16, parts)[-1]["losses"] == {"early": 7.0, "late": None}


def test_a_training_without_parts_logs_none(tmp_path):
    assert all("losses" not in line for line in train(tmp_path, 16, None))


def test_the_window_of_an_older_checkpoint_has_no_parts():
    window = Window(**{"total": 1.0, "steps": 2})
    assert window.parts == {}
    assert Window().parts is not window.parts


def test_a_window_counts_on_after_a_checkpoint():
    window = Window()
    window.add({"image": (2.0, 4.0)})
    window = Window(**json.loads(json.dumps(asdict(window))))
    window.add({"image": (1.0, 2.0), "condition": (0.5, 1.0)})
    assert window.parts == {"image": (3.0, 6.0), "condition": (0.5, 1.0)}

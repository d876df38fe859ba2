"""What is trained beside a model: it steps when the model has, and is in every checkpoint."""

from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from torch import nn

from diffgen.config.ema import ConstantEMAConfig
from diffgen.config.loop import LoopConfig
from diffgen.config.optimizer import AdamWConfig, ScheduleConfig
from diffgen.data.order import Sample, TrainingData
from diffgen.data.shapes import Shapes
from diffgen.errors import DivergedError, UserError
from diffgen.group import Group
from diffgen.training.checkpoint import TrainingState
from diffgen.training.checkpoints import Checkpoints
from diffgen.training.ema import EMA
from diffgen.training.loop import Hooks, Loop
from diffgen.training.optimizers import build_optimizers, build_schedules
from diffgen.training.run_folder import RunFolder

BATCH = 4


class Counter(nn.Module):
    """Counts its steps, and what the model's weights were at each."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("met", torch.zeros((), dtype=torch.float64))

    def step(self, model: nn.Module) -> None:
        self.steps += 1
        self.met = self.met * 1.5 + next(model.parameters()).double().sum()


def fresh(other: nn.Module) -> TrainingState:
    torch.manual_seed(0)
    model = nn.Conv2d(3, 1, 1)
    optimizers = build_optimizers(AdamWConfig(), model)
    schedules = build_schedules(ScheduleConfig(warmup_images=0), optimizers, 32, BATCH)
    ema = EMA(ConstantEMAConfig(), model)
    return TrainingState(model, ema, optimizers, schedules, others={"counter": other})


def train(out: Path, images: int, accumulation: int = 1) -> tuple[Counter, list[float]]:
    """Train on to ``images``; the counter, and the model's sums after each step of it."""
    counter = Counter()
    state = fresh(counter)
    newest = Checkpoints(out, 2).newest()
    if newest is not None:
        state.load(newest)
    out.mkdir(exist_ok=True)
    sums = []

    def stepped() -> None:
        counter.step(state.model)
        sums.append(next(state.model.parameters()).double().sum().item())

    def objective(model: nn.Module, batch: Sample) -> torch.Tensor:
        return model(batch["image"]).square().mean()

    every = {"log_images": 8, "checkpoint_images": 8, "sample_images": 0}
    settings = {"images": images, "batch_size": BATCH, "accumulation": accumulation}
    Loop(
        settings=LoopConfig(**settings, **every),
        accelerator=Accelerator(cpu=True),
        group=Group.join(cpu=True),
        data=TrainingData(Shapes(8, 8, "train"), 0),
        model=state.model,
        objective=objective,
        state=state,
        folder=RunFolder(out),
        hooks=Hooks(sample=lambda state: None),
        stepped=stepped,
    ).run()
    return counter, sums


@pytest.mark.parametrize("accumulation", [1, 2])
def test_it_steps_once_an_optimiser_step_after_the_model_has(tmp_path, accumulation):
    counter, sums = train(tmp_path, 16, accumulation)
    begun = next(fresh(Counter()).model.parameters()).double().sum().item()
    assert counter.steps == 4
    assert len({begun, *sums}) == 5
    weights = load_file(tmp_path / "checkpoints/images-000000016/model.safetensors")
    assert weights["weight"].double().sum().item() == sums[-1]


def test_a_checkpoint_holds_it_as_it_is_after_the_step_and_a_resumed_training_goes_on(tmp_path):
    train(tmp_path / "killed", 8)
    stored = load_file(tmp_path / "killed/checkpoints/images-000000008/counter.safetensors")
    assert stored["steps"] == 2
    (went_on, _), (whole, _) = train(tmp_path / "killed", 16), train(tmp_path / "whole", 16)
    assert went_on.steps == whole.steps == 4
    assert torch.equal(went_on.met, whole.met)


@pytest.mark.parametrize("damage", ["missing", "cut off", "another"])
def test_a_checkpoint_without_it_or_with_another_is_refused(tmp_path, damage):
    fresh(Counter()).save(tmp_path)
    file = tmp_path / "counter.safetensors"
    if damage == "missing":
        file.unlink()
    elif damage == "cut off":
        file.write_bytes(file.read_bytes()[:20])
    else:
        save_file({"steps": torch.zeros(3), "met": torch.zeros(())}, file)
    with pytest.raises(UserError, match=r"counter\.safetensors|cannot be read"):
        fresh(Counter()).load(tmp_path)
    state = TrainingState(nn.Conv2d(3, 1, 1), *vars_of(fresh(Counter())))
    state.load(tmp_path)  # who trains nothing else reads it all the same


def vars_of(state: TrainingState) -> tuple:
    return state.ema, state.optimizers, state.schedules


def test_one_that_is_no_number_any_more_stops_the_run_before_it_is_saved(tmp_path, monkeypatch):
    """Its last step, which no loss shows yet."""
    step = Counter.step

    def overflowing(self: Counter, model: nn.Module) -> None:
        step(self, model)
        if self.steps == 4:
            self.met.fill_(torch.nan)

    monkeypatch.setattr(Counter, "step", overflowing)
    said = "counter became NaN or infinite before 16 images; the last good checkpoint is .*08"
    with pytest.raises(DivergedError, match=said):
        train(tmp_path, 24)
    assert [path.name for path in Checkpoints(tmp_path, 9).all()] == ["images-000000008"]

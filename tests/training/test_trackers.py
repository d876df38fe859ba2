"""Trackers get what metrics.jsonl gets, and go on where a run was resumed."""

import json
from pathlib import Path
from typing import get_args

import pytest
from accelerate.tracking import LOGGER_TYPE_TO_CLASS

import diffgen.config.track as track
from diffgen.commands.train import train
from diffgen.config.command_line import parse
from diffgen.config.track import Tracker
from diffgen.config.train import TrainConfig
from diffgen.errors import UserError
from diffgen.training.trackers import check_trackers, run_id

# diffusers hands a tensor to numpy the old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def config(out: Path, images: int) -> TrainConfig:
    return TrainConfig.model_validate(
        {
            "out": out,
            "device": "cpu",
            "track": ["tensorboard"],
            "data": {"kind": "shapes", "size": "16x16"},
            "model": {"depth": 1, "hidden_size": 32, "num_heads": 2, "patch_size": 4},
            "train": {
                **{"images": images, "batch_size": 8, "log_images": 8},
                **{"checkpoint_images": 16, "sample_images": 0},
            },
            "schedule": {"decay": "constant"},
            "sampling": {"scheduler": "euler", "steps": 1},
            "report": {"sizes": ["16x16"], "num_images": 0},
        }
    )


def scalars(out: Path) -> dict[str, list[tuple[int, float]]]:
    """Tag -> (step, value) as TensorBoard shows them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(out / "logs/diffgen"))
    events.Reload()
    return {
        tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]
    }


def test_tensorboard_shows_the_lines_of_metrics_jsonl_over_a_resumption(tmp_path):
    """The second start repeats the images after the checkpoint: they are shown once."""
    train(config(tmp_path, 24))
    (last,) = (tmp_path / "checkpoints").glob("*24")
    for file in last.iterdir():
        file.unlink()
    last.rmdir()  # as if killed after the line at 24 and before its checkpoint
    train(config(tmp_path, 40))
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["images"] for line in lines] == [8, 16, 24, 32, 40]
    shown = scalars(tmp_path)
    for name in ("loss", "grad_norm"):
        assert shown[name] == [
            (line["images"], pytest.approx(line[name], rel=1e-6)) for line in lines
        ]
    for i in range(2):  # Muon's and AdamW's
        rates = [line["learning_rates"][i] for line in lines]
        assert [v for _, v in shown[f"learning_rate_{i}"]] == pytest.approx(rates, rel=1e-6)


def test_every_name_is_one_of_accelerates():
    assert set(get_args(Tracker)) == set(LOGGER_TYPE_TO_CLASS)


def test_a_missing_package_is_one_line_that_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(track, "find_spec", lambda name: None)
    argv = ["--track", "tensorboard,wandb", "--out", str(tmp_path)]
    with pytest.raises(UserError) as caught:
        parse(TrainConfig, argv, "train/dit.py")
    first = 'track: tensorboard is not installed; pip install "diffgen[track]"'
    second = "track: wandb is not installed; pip install wandb"
    assert str(caught.value) == f"train/dit.py: 2 mistakes\n  {first}\n  {second}"
    with pytest.raises(UserError) as caught:
        check_trackers(["tensorboard"])
    assert str(caught.value) == first


def test_an_unknown_tracker_is_refused(tmp_path):
    with pytest.raises(UserError, match="track"):
        parse(TrainConfig, ["--track", "paper", "--out", str(tmp_path)], "train/dit.py")


def test_a_runs_name_for_trackers_stays_and_is_its_own(tmp_path):
    first = run_id(tmp_path / "a")
    assert run_id(tmp_path / "a") == first
    assert run_id(tmp_path / "b") != first

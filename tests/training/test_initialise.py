"""Starting from another model tells where tokens are placed otherwise than there."""

from pathlib import Path

import pytest

from diffgen import DiffGenPipeline, DiT
from diffgen.commands.train import train
from diffgen.config.positions import NoPosition, RopeConfig, RPE2DConfig, SinCosConfig
from diffgen.config.train import TrainConfig
from diffgen.sampling.schedulers import build_scheduler
from diffgen.training.initialise import moved_positions

TINY = {"depth": 1, "hidden_size": 32, "num_heads": 2, "patch_size": 4}


def pipeline(folder: Path, **position) -> str:
    """An untrained model of images of 4 x 4 tokens."""
    model = DiT(sample_size=(16, 16), position=position, num_classes=8, **TINY)
    DiffGenPipeline(model, build_scheduler("euler")).save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize(
    ("before", "now", "told"),
    [
        ("sincos", SinCosConfig(), "4x4 tokens, now from 6x4; as before: --model.position.trained"),
        ("sincos", SinCosConfig(trained_grid="4x4"), None),
        ("sincos", RopeConfig(), "its positional encoding was sincos, now it is rope"),
        ("rpe2d", RPE2DConfig(), "4x4 tokens, now from 6x4; as before: --model.position.trained-g"),
        ("rpe2d", RPE2DConfig(range_rows=8, range_columns=8), "--model.position.trained-grid 4x4"),
        ("rpe2d", RPE2DConfig(trained_grid="4x4"), None),
        (
            "rpe2d",
            RPE2DConfig(trained_grid="4x4", range_rows=9),
            "drawn from 8x8, now from 9x8; as before: --model.position.range-rows 8 --model",
        ),
        ("none", NoPosition(), None),
        ("rope", RopeConfig(trained_grid="4x4", additive=False), "position.additive was True, now"),
    ],
)
def test_what_moved_is_told_with_the_way_to_keep_it(tmp_path, before, now, told):
    lines = list(moved_positions(now, (6, 4), pipeline(tmp_path, kind=before)))
    assert len(lines) == (told is not None)
    assert told is None or told in lines[0]


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_a_training_prints_it(tmp_path, capsys):
    settings = {
        "out": tmp_path / "run",
        "device": "cpu",
        "init": pipeline(tmp_path / "small", kind="sincos"),
        "data": {"kind": "shapes", "size": "24x16"},
        "model": TINY,
        "train": {"images": 8, "batch_size": 8, "sample_images": 0},
        "report": {"num_images": 0},
        "sampling": {"steps": 1},
    }
    train(TrainConfig.model_validate(settings))
    assert "--model.position.trained-grid 4x4" in capsys.readouterr().out

"""Trainings on mixed sizes, with drawn positions and micro-conditioning, as a user starts them."""

import pytest
import torch
from PIL import Image

from diffgen import DiffGenPipeline, DiT
from diffgen.commands.train import train
from tests.logs import curve
from tests.trainings import settings, tensors

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

MIXED = {"data": {"crop": "none", "size": "24x24"}}
RPE2D = {
    "data": {"crop": "random", "crop_scale": 0.25},
    "model": {"position": {"kind": "rpe2d"}, "micro": "pixels"},
}


@pytest.mark.parametrize("changes", [MIXED, RPE2D], ids=["mixed", "rpe2d"])
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(tmp_path, changes):
    schedule = {"schedule": {"decay": "constant"}}  # so that the length changes nothing
    train(settings(tmp_path / "whole", **changes, **schedule))
    train(settings(tmp_path / "parts", **changes, **schedule, train={"images": 32}))
    train(settings(tmp_path / "parts", **changes, **schedule))
    mine, theirs = tensors(tmp_path / "whole"), tensors(tmp_path / "parts")
    assert mine.keys() == theirs.keys()
    for name, tensor in mine.items():
        assert torch.equal(tensor, theirs[name]), name


@pytest.mark.parametrize("train_settings", [{"token_budget": 40}, {"mixed": "padded"}])
def test_neither_the_budget_nor_padding_changes_the_training(tmp_path, train_settings):
    """At a rate at which rounding is all that differs."""
    gentle = {"optimizer": {"kind": "adamw", "lr": 1e-5}}
    train(settings(tmp_path / "packed", **MIXED, **gentle))
    train(settings(tmp_path / "other", **MIXED, **gentle, train=train_settings))
    for one, other in zip(curve(tmp_path / "packed"), curve(tmp_path / "other"), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-5)
        assert one["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-4)


def test_the_budget_bounds_what_is_computed_at_once(tmp_path, monkeypatch):
    seen = []
    forward = DiT.forward

    def noting(self, x, t, y, coords=None, **told):
        if self.training:
            seen.append(len(coords))
        return forward(self, x, t, y, coords, **told)

    monkeypatch.setattr(DiT, "forward", noting)
    train(settings(tmp_path / "run", **MIXED, train={"token_budget": 40, "images": 32}))
    assert max(seen) <= 40
    assert len(seen) > 4 * 2  # batches of 8 images of up to 36 tokens


def test_a_model_of_mixed_sizes_draws_at_any(tmp_path):
    train(settings(tmp_path / "run", **MIXED))
    pipe = DiffGenPipeline.from_pretrained(tmp_path / "run")
    assert pipe.geometry.trained == (24, 24)
    assert pipe([0], height=16, width=40, num_inference_steps=1).images[0].size == (40, 16)


def test_long_pictures_are_cut_short_at_the_range_of_the_encoding(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for i, size in enumerate([(360, 24), (24, 360), (30, 30), (16, 16)]):
        Image.new("RGB", size, (40 * i, 90, 200)).save(folder / f"{i}.png")
    data = {"data": {"kind": "folder", "path": folder, "crop": "none", "size": "16x16"}}
    train(settings(tmp_path / "run", **data, model={"position": {"kind": "rpe2d"}}))
    assert (tmp_path / "run/pipeline/model_index.json").exists()


def test_the_final_pictures_keep_to_the_range_of_the_encoding(tmp_path):
    position = {"kind": "rpe2d", "range_rows": 4, "range_columns": 8}
    train(settings(tmp_path / "run", model={"position": position}, report={"sizes": []}))
    with Image.open(tmp_path / "run/samples/sizes.png") as sheet:
        assert sheet.height < 2.5 * (22 + 96 + 4)  # 16x16 and 16x32: two rows


def test_token_budget_and_padding_may_change_when_a_run_is_resumed(tmp_path):
    train(settings(tmp_path / "run", **MIXED, train={"images": 32}))
    other = {"token_budget": 40, "mixed": "padded"}
    train(settings(tmp_path / "run", **MIXED, train=other))

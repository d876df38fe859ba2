"""Trainings of aligners that are refused: one message, and nothing left or changed."""

import shutil
from pathlib import Path

import pytest
from PIL import Image

from diffgen.cli import launch
from diffgen.commands.train_aligner import train_aligner
from diffgen.errors import UserError
from tests.lacon_runs import settings, tiny_run

pytestmark = pytest.mark.usefixtures("few_measured")


def photographs(folder: Path, count: int, square: int = 6) -> dict:
    """``count`` pictures in a folder of their own, of a square on plain ground; as data."""
    folder.mkdir(exist_ok=True)
    for i in range(count):
        picture = Image.new("RGB", (16, 16), (40 * i, 9, 9))
        picture.paste((255, 255, 40 * i), (3, 3 + i, 3 + square, 3 + i + square))
        picture.save(folder / f"{i}.png")
    return {"kind": "folder", "path": str(folder), "size": "16x16"}


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"fusion": "mix"}, "fusion: concat there, mix here"),
        ({"condition": "edge"}, "condition: palette there, edge here"),
        ({"train": {"batch_size": 16}}, "train.batch_size: 8 there, 16 here"),
        ({"data": {"kind": "shapes", "size": "16x24"}}, "data.size: 16x16 there, 16x24 here"),
    ],
)
def test_an_aligner_of_other_settings_is_refused_and_left_alone(run, uninterrupted, changes, field):
    before = {path: path.stat().st_mtime_ns for path in uninterrupted.rglob("*")}
    with pytest.raises(UserError) as caught:
        train_aligner(settings(run, out=uninterrupted, **changes))
    assert str(caught.value).startswith("out: ")
    assert field in str(caught.value)
    assert {path: path.stat().st_mtime_ns for path in uninterrupted.rglob("*")} == before


def test_an_aligner_of_another_model_is_not_gone_on_with(run, uninterrupted, tmp_path):
    """A run folder may be called otherwise, but not hold other weights."""
    shutil.copytree(run / "pipeline", tmp_path / "moved/pipeline")
    shutil.copy(run / "config.yaml", tmp_path / "moved")
    train_aligner(settings(tmp_path / "moved", out=uninterrupted))
    before = (uninterrupted / "config.yaml").read_bytes()
    other = tiny_run(tmp_path / "other", depth=3)
    with pytest.raises(UserError, match=r"source: .*other is another model than .*whole was"):
        train_aligner(settings(other, out=uninterrupted))
    assert (uninterrupted / "config.yaml").read_bytes() == before


def test_other_pictures_are_not_gone_on_with(run, tmp_path):
    config = settings(run, out=tmp_path / "out", data=photographs(tmp_path / "some", 3))
    train_aligner(config)
    photographs(tmp_path / "some", 4)
    with pytest.raises(UserError, match=r"trained on 3 images, but the data now has 4, .*--out$"):
        train_aligner(config)


def test_a_bad_loss_stops_the_training_and_names_the_last_good_checkpoint(run, tmp_path):
    at_once = {"optimizer": {"lr": 1e30}, "schedule": {"warmup_images": 0}}
    with pytest.raises(UserError, match=r"NaN or infinite .*none was saved yet; lower --optimizer"):
        train_aligner(settings(run, out=tmp_path / "bad", **at_once))
    assert not (tmp_path / "bad/aligner").exists()


def test_maps_that_are_all_alike_are_refused_before_the_training(run, tmp_path):
    one, plain = photographs(tmp_path / "one", 1), photographs(tmp_path / "plain", 4, square=0)
    for data, condition, count in ((one, "palette", 1), (plain, "mask", 4)):
        said = f"all {count} pictures have the same map of {condition}; there is nothing to learn"
        with pytest.raises(UserError, match=f"condition: {said}"):
            train_aligner(settings(run, out=tmp_path / "out", data=data, condition=condition))
        assert not (tmp_path / "out").exists()


def test_a_damaged_model_leaves_nothing_behind(run, tmp_path):
    shutil.copytree(run / "pipeline", tmp_path / "run/pipeline")
    shutil.copy(run / "config.yaml", tmp_path / "run")
    weights = next((tmp_path / "run/pipeline/transformer").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:900])
    with pytest.raises(UserError, match="source: "):
        train_aligner(settings(tmp_path / "run"))
    assert not (tmp_path / "run/aligners").exists()


def refusal(argv: list[str], capsys) -> str:
    """The one message that ``train/lacon.py`` ends with."""
    assert launch("lacon", argv, "lacon") == 2
    return capsys.readouterr().err


def test_wrong_input_is_refused_with_one_message(run, uninterrupted, tmp_path, capsys):
    some = photographs(tmp_path / "some", 4)["path"]
    folder = ["--data.kind", "folder", "--data.path", some]
    shutil.copytree(run / "pipeline", tmp_path / "lone")
    cases = [
        (["--condition", "egde"], "condition: 'egde' is unknown; known are edge, mask"),
        (["--condition", "nowhere:MINE"], "condition: nowhere:MINE: No module named 'nowhere'"),
        (
            ["--condition", "depth", "--data.size", "16x16", *folder],
            "condition: depth cannot be found in pictures; it needs data that brings it",
        ),
        (["--blocks", "0,7"], "blocks: 7 is none of the model's 2, which are 0 to 1"),
        (["--blocks", "1,1"], "blocks: must name every block once"),
        (["--head-width", "6"], "head_width: input should be a multiple of 4"),
        (["--low", "0"], "low: input should be greater than or equal to 0.001"),
        (["--low", "1"], "low: input should be less than or equal to 0.95"),
        (["--optimizer.kind", "muon"], "optimizer.kind: input should be 'adamw'"),
        (["--train.accumulation", "3"], "train.accumulation: 3 does not divide train.batch_size"),
        (["--data.kind", "shapes", "--data.size", "17x16"], "data.size: 17x16 is not divisible"),
        (["--data.kind", "folder", "--data.path", "gone"], "data.path: gone does not exist"),
        (["--vae", "gone"], "vae: gone is not needed"),
        (["--out", str(run)], "is the folder of a model; what is trained needs one of its own"),
        (["--out", f"{some}/0.png"], "0.png is not a folder"),
        (["--out", str(uninterrupted)], f"out: {uninterrupted} holds a run with other settings"),
    ]
    for argv, expected in cases:
        said = refusal([str(run), "--device", "cpu", *argv], capsys)
        assert said.startswith("lacon: "), said
        assert expected in said
        assert "Traceback" not in said
    said = refusal([str(tmp_path / "lone")], capsys)
    assert "lone is in no run folder that would tell its pictures" in said
    assert "source: gone/away/model" in refusal(["gone/away/model"], capsys)
    assert not (run / "aligners/depth").exists()

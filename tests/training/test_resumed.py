"""Real trainings that are gone on with: after a kill or damage, longer, or not at all."""

import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from diffgen.commands.train import train
from diffgen.data.pixels import to_pil, to_uint8
from diffgen.errors import UserError
from diffgen.files import locked
from diffgen.training.checkpoints import Checkpoints, seen_of
from tests.logs import curve
from tests.trainings import (
    assert_same_run,
    coloured,
    killed_at_a_preview,
    newest,
    settings,
    tensors,
)

# diffusers hands a tensor to numpy the old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def test_a_killed_training_goes_on_as_if_nothing_had_happened(uninterrupted, tmp_path, monkeypatch):
    """Killed at image 72: past a checkpoint (64), in the middle of a line of the log (48, 72)."""
    config = settings(tmp_path / "run", train={"sample_images": 24})
    with killed_at_a_preview(monkeypatch, 72):
        train(config)
    assert [line["images"] for line in curve(config.out)] == [24, 48, 72]
    assert seen_of(newest(config.out)) == 64
    with (config.out / "metrics.jsonl").open("a") as file:
        file.write('{"images": 9')  # the kill cut a line in two
    train(config)
    assert_same_run(config.out, uninterrupted)
    names = sorted(path.name for path in (config.out / "samples").glob("images-*.png"))
    assert names == [f"images-{seen:09d}.png" for seen in (24, 48, 72, 96)]


def test_a_longer_training_continues_a_shorter_one(tmp_path):
    """At a constant rate the length of the training changes nothing along the way."""
    constant = {"schedule": {"decay": "constant"}}
    train(settings(tmp_path / "whole", **constant))
    train(settings(tmp_path / "parts", **constant, train={"images": 48}))
    assert seen_of(newest(tmp_path / "parts")) == 48
    train(settings(tmp_path / "parts", **constant))
    assert curve(tmp_path / "parts") == curve(tmp_path / "whole")
    parts, whole = (
        load_file(newest(tmp_path / r) / "model.safetensors") for r in ("parts", "whole")
    )
    assert all(torch.equal(parts[name], whole[name]) for name in whole)


def test_a_finished_training_is_left_as_it_is(uninterrupted):
    before = {name: t.clone() for name, t in tensors(uninterrupted).items()}
    log = (uninterrupted / "metrics.jsonl").read_text()
    train(settings(uninterrupted))
    assert (uninterrupted / "metrics.jsonl").read_text() == log
    after = tensors(uninterrupted)
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_checkpoints_beyond_those_kept_go(uninterrupted):
    assert [seen_of(path) for path in Checkpoints(uninterrupted, 2).all()] == [64, 96]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"optimizer": {"kind": "muon", "lr": 0.5}}, "optimizer.lr: 0.005 there, 0.5 here"),
        ({"model": {"hidden_size": 64}}, "model.hidden_size: 32 there, 64 here"),
        ({"seed": 3}, "seed: 0 there, 3 here"),
        ({"train": {"batch_size": 16}}, "train.batch_size"),
        ({"ema": {"kind": "constant"}}, "ema.kind"),
        ({"data": {"size": "16x32"}}, "data.size"),
    ],
)
def test_a_run_of_other_settings_is_refused_and_left_alone(uninterrupted, changes, field):
    before = {path: path.stat().st_mtime_ns for path in uninterrupted.rglob("*")}
    with pytest.raises(UserError) as caught:
        train(settings(uninterrupted, **changes))
    assert field in str(caught.value)
    assert {path: path.stat().st_mtime_ns for path in uninterrupted.rglob("*")} == before


def test_several_changed_settings_are_named_together(uninterrupted):
    with pytest.raises(UserError) as caught:
        train(settings(uninterrupted, seed=3, model={"depth": 2}))
    assert "seed" in str(caught.value)
    assert "model.depth: 1 there, 2 here" in str(caught.value)


def damaged(run: Path) -> Path:
    file = newest(run) / "model.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    return file


def test_a_damaged_checkpoint_stops_the_resumption_when_there_is_no_other(tmp_path):
    train(settings(tmp_path / "run", train={"images": 32}))
    for older in Checkpoints(tmp_path / "run").all()[:-1]:
        shutil.rmtree(older)
    file = damaged(tmp_path / "run")
    log = (tmp_path / "run/metrics.jsonl").read_text()
    with pytest.raises(UserError, match=r"images-000000032: model.safetensors has 100 bytes"):
        train(settings(tmp_path / "run", train={"images": 64}))
    assert file.stat().st_size == 100
    assert (tmp_path / "run/metrics.jsonl").read_text() == log


def test_a_damaged_checkpoint_is_told_and_the_one_before_it_used(tmp_path, capsys):
    for name in ("run", "whole"):
        train(settings(tmp_path / name, train={"images": 64}))
    damaged(tmp_path / "run")
    train(settings(tmp_path / "run", train={"images": 64}))
    said = capsys.readouterr()
    assert "images-000000064 is damaged (model.safetensors has 100 bytes instead of" in said.err
    assert "images seen" in said.out
    assert curve(tmp_path / "run") == curve(tmp_path / "whole")
    one, other = tensors(tmp_path / "run"), tensors(tmp_path / "whole")
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    names = {path.name for path in (tmp_path / "run/checkpoints").iterdir()}
    assert "damaged-images-000000064" in names
    assert "images-000000064" in names


def test_a_run_is_not_resumed_on_other_classes(tmp_path):
    data = {"kind": "folder", "path": coloured(tmp_path / "data", "b", "c"), "size": "16x16"}
    config = settings(tmp_path / "run", data=data, model={"num_classes": 4})
    train(config)
    before = tensors(config.out)
    coloured(tmp_path / "data", "a")
    with pytest.raises(UserError, match=r"classes b, c, but the data now\s+has a, b, c"):
        train(config)
    assert all(torch.equal(v, before[k]) for k, v in tensors(config.out).items())


def test_a_run_is_not_resumed_on_more_images(tmp_path):
    data = {"kind": "folder", "path": coloured(tmp_path / "data", "b", "c"), "size": "16x16"}
    config = settings(tmp_path / "run", data=data)
    train(config)
    before = tensors(config.out)
    Image.new("RGB", (16, 16)).save(tmp_path / "data/b/another.png")
    with pytest.raises(UserError, match=r"was trained on \d+ images, but the data now has"):
        train(settings(tmp_path / "run", data=data, train={"images": 128}))
    assert all(torch.equal(v, before[k]) for k, v in tensors(config.out).items())


def test_a_second_training_in_the_same_folder_is_refused(tmp_path):
    config = settings(tmp_path / "run")
    with (
        locked(config.out),
        pytest.raises(UserError, match="another command is writing"),
    ):
        train(config)


def test_a_finished_run_is_exported_anew_at_another_width(tmp_path):
    """Tracked widths from the checkpoint, others from the snapshots."""
    exported = {}
    for width in (0.10, 0.05, 0.07):
        often = {"checkpoint_images": 8}
        train(settings(tmp_path / "run", ema={"export": width}, train=often))
        file = tmp_path / "run/pipeline/transformer/diffusion_pytorch_model.safetensors"
        exported[width] = load_file(file)
    checkpoint = newest(tmp_path / "run")
    for width in (0.10, 0.05):
        kept = load_file(checkpoint / f"ema-power-{width:g}.safetensors")
        assert all(torch.equal(exported[width][name], kept[name]) for name in kept)
    name = "blocks.0.attn.qkv.weight"
    wide, narrow, between = (exported[width][name] for width in (0.10, 0.05, 0.07))
    gap = (wide - narrow).norm()
    assert 0 < (between - narrow).norm() < gap
    assert 0 < (between - wide).norm() < gap


def test_the_export_comes_back_after_a_kill_between_checkpoint_and_export(tmp_path):
    config = settings(tmp_path / "run")
    train(config)
    files = sorted((tmp_path / "run/pipeline").rglob("*.safetensors"))
    snapshots = sorted((tmp_path / "run/snapshots").iterdir())
    whole = [file.read_bytes() for file in (*files, snapshots[-1])]
    shutil.rmtree(tmp_path / "run/pipeline")
    snapshots[-1].unlink()
    train(config)
    assert [file.read_bytes() for file in (*files, snapshots[-1])] == whole


def test_a_run_is_told_from_another_and_not_cut_short(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        (tmp_path / "pictures").mkdir(exist_ok=True)
        to_pil(to_uint8(torch.rand(1, 3, 16, 16)))[0].save(tmp_path / f"pictures/{name}.png")
    folder = {"kind": "folder", "path": "pictures", "size": "16x16"}
    train(settings(tmp_path / "run", data=folder))
    folder["path"] = str(tmp_path / "pictures")  # the same folder, in other words
    train(settings(tmp_path / "run", data=folder))
    with pytest.raises(UserError, match=r"train.images: 80, but the training in .* has seen 96"):
        train(settings(tmp_path / "run", data=folder, train={"images": 80}))
    assert "images: 96" in (tmp_path / "run/config.yaml").read_text()
    (tmp_path / "run/config.yaml").unlink()
    with pytest.raises(UserError, match=r"config.yaml is gone"):
        train(settings(tmp_path / "run", data=folder))

"""Real trainings of a tiny model: learning, resuming, accumulating, stopping, starting over."""

import json
import math
import shutil
from collections import Counter
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import diffgen.commands.train as command
from diffgen import DiffGenPipeline, DiT
from diffgen.commands.begin_training import begin_state
from diffgen.commands.train import train
from diffgen.config.train import TrainConfig
from diffgen.data.pixels import to_pil, to_uint8
from diffgen.data.source import build_images
from diffgen.errors import UserError
from diffgen.files import locked
from diffgen.sampling.schedulers import build_scheduler
from diffgen.training.checkpoints import Checkpoints, seen_of
from diffgen.training.loop import crossed
from tests.logs import curve

# diffusers hands a tensor to numpy the old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def settings(out: Path, **changes) -> TrainConfig:
    """A training of 96 images in 12 steps; ``section={...}`` changes single fields."""
    base = {
        "out": out,
        "device": "cpu",
        "data": {"kind": "shapes", "size": "16x16"},
        "model": {"depth": 1, "hidden_size": 32, "num_heads": 2, "patch_size": 4},
        "schedule": {"warmup_images": 32},
        "train": {
            "images": 96,
            "batch_size": 8,
            "log_images": 24,
            "checkpoint_images": 32,
            "sample_images": 0,
        },
        "sampling": {"scheduler": "euler", "steps": 1},
        "report": {"sizes": ["16x16"], "num_images": 0},
    }
    for section, fields in changes.items():
        base[section] = {**base.get(section, {}), **fields} if isinstance(fields, dict) else fields
    return TrainConfig.model_validate(base)


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


def assert_same_run(one: Path, other: Path) -> None:
    assert curve(one) == curve(other)
    mine, theirs = tensors(one), tensors(other)
    assert mine.keys() == theirs.keys()
    assert len(mine) > 50
    for name, tensor in mine.items():
        assert torch.equal(tensor, theirs[name]), name


class Killed(BaseException):
    """As sudden as a signal."""


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "whole"
    train(settings(out))
    return out


def test_the_loss_falls_and_the_run_folder_is_complete(tmp_path):
    """From about E|eps - x0|^2 to clearly less, in 100 steps."""
    train(
        settings(
            tmp_path,
            model={"prediction": "velocity"},
            process={"times": {"mean": 0.0}},
            schedule={"warmup_images": 0},
            train={"images": 1600, "batch_size": 16, "log_images": 160, "checkpoint_images": 800},
        )
    )
    losses = [line["loss"] for line in curve(tmp_path)]
    assert [line["images"] for line in curve(tmp_path)] == list(range(160, 1601, 160))
    assert 0.9 < losses[0] < 1.4
    assert losses[-1] < 0.65 * losses[0]
    assert {path.name for path in tmp_path.iterdir()} >= {
        *("config.yaml", "metrics.jsonl", "samples", "checkpoints", "pipeline"),
    }
    pipe = DiffGenPipeline.from_pretrained(tmp_path)
    pipe.set_progress_bar_config(disable=True)
    assert pipe(["circle"], 24, 8, num_inference_steps=2, seed=0).images[0].size == (8, 24)


def test_the_same_training_twice_is_the_same_bit_for_bit(uninterrupted, tmp_path):
    train(settings(tmp_path / "again"))
    assert_same_run(tmp_path / "again", uninterrupted)
    train(settings(tmp_path / "seed", seed=1))
    assert curve(tmp_path / "seed") != curve(uninterrupted)


def test_a_killed_training_goes_on_as_if_nothing_had_happened(uninterrupted, tmp_path, monkeypatch):
    """Killed at image 72: past a checkpoint (64), in the middle of a line of the log (48, 72)."""
    config = settings(tmp_path / "run", train={"sample_images": 24})
    draw_preview = command.draw_preview

    def kill(pipe, sampling, target):
        draw_preview(pipe, sampling, target)
        if "72" in target.name:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(command, "draw_preview", kill)
        with pytest.raises(Killed):
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


def test_the_rate_warms_up_and_falls_as_configured(uninterrupted):
    """Warm-up over 32 images; a cosine over all 96; Muon at 0.02, AdamW at 0.005.

    A line at n images bears the rate of the step that follows, which ends at n + 8.
    """
    for line in curve(uninterrupted):
        seen = line["images"] + 8
        progress = min(1, seen / 96)
        factor = min(1, seen / 32) * (1 + math.cos(math.pi * progress)) / 2
        assert line["learning_rates"] == pytest.approx([0.02 * factor, 0.005 * factor], abs=1e-9)


def test_checkpoints_beyond_those_kept_go(uninterrupted):
    assert [seen_of(path) for path in Checkpoints(uninterrupted, 2).all()] == [64, 96]


def random_pipeline(folder: Path, **options) -> Path:
    """A model of the trainings' size with every weight drawn: every gradient is alive."""
    model = DiT(
        sample_size=(16, 16),
        patch_size=4,
        hidden_size=32,
        depth=1,
        num_heads=2,
        num_classes=8,
        **options,
    )
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(0.1 * torch.randn(p.shape, generator=generator))
    DiffGenPipeline(model, build_scheduler("euler")).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("pieces", [2, 4])
def test_accumulation_gives_the_gradients_of_the_whole_batch(tmp_path, pieces):
    """After one step the optimisers' first moments are the gradients, times a constant."""
    source = str(random_pipeline(tmp_path / "source"))
    moments = []
    for accumulation in (1, pieces):
        out = tmp_path / f"run{accumulation}"
        loop = {"images": 8, "accumulation": accumulation, "clip_norm": 0}
        train(settings(out, init=source, train=loop))
        found = tensors(out)
        moments.append({k: v for k, v in found.items() if k.endswith(("momentum", "exp_avg"))})
        assert curve(out)[0]["loss"] == pytest.approx(curve(tmp_path / "run1")[0]["loss"], rel=1e-6)
    assert len(moments[0]) == sum(1 for _ in DiT(depth=1).parameters())
    largest = max(v.abs().max() for v in moments[0].values())
    for name, moment in moments[0].items():
        assert moment.any(), name
        difference = (moments[1][name] - moment).abs().max()
        assert difference < 1e-6 * largest + 1e-5 * moment.abs().max(), name


def moments(out: Path) -> dict[str, torch.Tensor]:
    """AdamW's first moments after one step: (1 - 0.9) times the gradient it was given."""
    return {name: v for name, v in tensors(out).items() if name.endswith("/exp_avg")}


def test_the_gradient_reaches_the_optimiser_at_the_norm_it_is_clipped_to(tmp_path):
    source = str(random_pipeline(tmp_path / "source"))
    norms = {}
    for limit in (0, 1e-3):
        loop = {"images": 8, "clip_norm": limit}
        train(settings(tmp_path / f"{limit}", init=source, optimizer={"kind": "adamw"}, train=loop))
        found = moments(tmp_path / f"{limit}")
        norms[limit] = torch.cat([v.flatten() for v in found.values()]).norm().item() / 0.1
    logged = curve(tmp_path / "0")[0]["grad_norm"]
    assert logged == curve(tmp_path / "0.001")[0]["grad_norm"]  # logged as it was
    assert norms[0] == pytest.approx(logged, rel=1e-5)
    assert logged > 0.1
    assert norms[1e-3] == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize(("rate", "dropped"), [(0.0, False), (0.999999, True)])
def test_labels_are_dropped_at_the_configured_rate(tmp_path, rate, dropped):
    """The rows of the label embedding with a gradient are those of the labels the model saw."""
    train(
        settings(
            tmp_path / "run",
            init=str(random_pipeline(tmp_path / "source")),
            optimizer={"kind": "adamw"},
            model={"class_dropout": rate},
            train={"images": 8},
        )
    )
    (table,) = (v for v in moments(tmp_path / "run").values() if v.shape == (9, 32))
    seen = {row for row in range(9) if table[row].any()}
    assert seen == {8} if dropped else (8 not in seen and len(seen) > 1)


@pytest.mark.parametrize("kind", ["muon", "adamw"])
def test_a_bad_loss_stops_the_training_and_names_the_last_good_checkpoint(tmp_path, kind):
    rates = {"lr": 1e30} | ({"muon_lr": 1e30} if kind == "muon" else {})
    config = settings(
        tmp_path / "run",
        optimizer={"kind": kind, **rates},
        schedule={"warmup_images": 0},
        train={"checkpoint_images": 8},
    )
    with pytest.raises(UserError, match=r"NaN or infinite") as caught:
        train(config)
    good = newest(config.out)
    assert str(good) in str(caught.value)
    for file in good.glob("*.safetensors"):
        for name, tensor in load_file(file).items():
            assert tensor.isfinite().all(), (file.name, name)
    state = begin_state(
        config,
        DiT.build(config.model, num_classes=8, in_channels=3, sample_size=(16, 16)),
        command.build_accelerator(config),
        command.RunFolder(config.out),
        build_images(config.data).class_names,
        len(build_images(config.data)),
    )
    assert state.seen == seen_of(good)


def test_a_bad_loss_before_any_checkpoint_says_so(tmp_path):
    config = settings(
        tmp_path / "run", optimizer={"kind": "adamw", "lr": 1e30}, schedule={"warmup_images": 0}
    )
    with pytest.raises(UserError, match="none was saved yet"):
        train(config)
    assert Checkpoints(config.out, 2).all() == []
    assert not (config.out / "pipeline").exists()


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


def test_starting_from_a_model_of_other_classes_renews_only_their_table(tmp_path, capsys):
    source = random_pipeline(tmp_path / "source")
    still = {"kind": "adamw", "lr": 1e-30}
    config = settings(
        tmp_path / "run",
        init=str(source),
        model={"num_classes": 12},
        optimizer=still,
        train={"images": 8},
    )
    train(config)
    said = capsys.readouterr().out
    assert "started afresh: y_embedder.embedding_table.weight" in said
    assert said.count("started afresh") == 1
    old = load_file(source / "transformer/diffusion_pytorch_model.safetensors")
    new = load_file(newest(config.out) / "model.safetensors")
    assert f"took {len(old) - 1} tensors" in said
    assert old.keys() == new.keys()
    table = "y_embedder.embedding_table.weight"
    assert new[table].shape == (13, 32)
    assert new[table].std().item() == pytest.approx(0.02, rel=0.2)
    for name in old.keys() - {table}:
        assert torch.equal(new[name], old[name]), name


def test_starting_from_a_model_happens_only_once(tmp_path):
    """Resumed, the run goes on from its own checkpoint; the source may be gone by then."""
    source = random_pipeline(tmp_path / "source")
    config = settings(tmp_path / "run", init=str(source), train={"images": 32})
    train(config)
    trained = load_file(newest(config.out) / "model.safetensors")
    old = load_file(source / "transformer/diffusion_pytorch_model.safetensors")
    moved = {name: (trained[name] - old[name]).abs().max().item() for name in old}
    assert 0 < max(moved.values()) < 0.2  # near where it started
    shutil.rmtree(source)
    train(config)
    again = load_file(newest(config.out) / "model.safetensors")
    assert all(torch.equal(again[name], trained[name]) for name in trained)


def test_a_model_nothing_of_which_fits_is_refused(uninterrupted, tmp_path):
    config = settings(
        tmp_path / "run",
        init=str(uninterrupted),
        model={"hidden_size": 64, "num_heads": 4, "patch_size": 8},
    )
    with pytest.raises(UserError, match="init: only 0 of 23 tensors"):
        train(config)


def test_what_the_processes_cannot_share_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"train\.batch_size: 8 .* 3 pieces"):
        train(settings(tmp_path / "run", train={"accumulation": 3}))
    with pytest.raises(UserError, match=r"model\.num_classes: 3, but the data has 8"):
        train(settings(tmp_path / "run", model={"num_classes": 3}))


@pytest.mark.parametrize(
    ("seen", "batch", "every", "expected"),
    [
        (32, 8, 32, True),
        (40, 8, 32, False),
        (36, 12, 32, True),
        (48, 12, 32, False),
        (100, 100, 32, True),
        (8, 8, 1, True),
    ],
)
def test_crossing_a_multiple(seen, batch, every, expected):
    """True when one of ``seen - batch + 1 ... seen`` is a multiple of ``every``."""
    assert crossed(seen, batch, every) is expected
    assert expected == any(k % every == 0 for k in range(seen - batch + 1, seen + 1))


def coloured(folder: Path, *names: str) -> Path:
    """Four plain 16 x 16 pictures in a class folder of each name."""
    for shade, name in enumerate(names):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(4):
            colour = (60 * shade, 10 * i, 90)
            Image.new("RGB", (16, 16), colour).save(folder / name / f"{i}.png")
    return folder


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


def test_a_choice_of_files_is_scored_against_these(tmp_path):
    folder = coloured(tmp_path / "data", "a", "b", "c")
    data = {"kind": "folder", "path": folder, "size": "16x16", "classes": ["c", "a"]}
    train(settings(tmp_path / "run", data=data, report={"num_images": 8}))
    (file,) = (tmp_path / "run").glob("evaluation-*.json")
    found = json.loads(file.read_text())
    assert found["reference_data"]["classes"] == ["c", "a"]
    reference, floor = (found["label_counts"][name] for name in ("reference", "floor"))
    assert Counter(reference) + Counter(floor) == {"c": 4, "a": 4}


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


def test_a_training_that_cannot_be_scored_still_ends_well(tmp_path, capsys):
    data = {"kind": "folder", "path": coloured(tmp_path / "data", "b"), "size": "16x16"}
    train(settings(tmp_path / "run", data=data, report={"num_images": 8}))
    said = capsys.readouterr().out
    assert "not scored: reference:" in said
    assert "python sample/generate.py" in said


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

"""Real trainings of a tiny model: learning, accumulating, stopping, starting over."""

import json
import math
import shutil
from collections import Counter
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import diffgen.commands.train as command
from diffgen import DiffGenPipeline, DiT
from diffgen.commands.begin_training import begin_state
from diffgen.commands.train import train
from diffgen.data.source import build_images
from diffgen.errors import UserError
from diffgen.sampling.schedulers import build_scheduler
from diffgen.training.checkpoints import Checkpoints, seen_of
from diffgen.training.loop import crossed
from tests.logs import curve
from tests.trainings import assert_same_run, coloured, newest, settings, tensors

# diffusers hands a tensor to numpy the old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


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


def test_the_rate_warms_up_and_falls_as_configured(uninterrupted):
    """Warm-up over 32 images; a cosine over all 96; Muon at 0.02, AdamW at 0.005.

    A line at n images bears the rate of the step that follows, which ends at n + 8.
    """
    for line in curve(uninterrupted):
        seen = line["images"] + 8
        progress = min(1, seen / 96)
        factor = min(1, seen / 32) * (1 + math.cos(math.pi * progress)) / 2
        assert line["learning_rates"] == pytest.approx([0.02 * factor, 0.005 * factor], abs=1e-9)


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


def test_a_choice_of_files_is_scored_against_these(tmp_path):
    folder = coloured(tmp_path / "data", "a", "b", "c")
    data = {"kind": "folder", "path": folder, "size": "16x16", "classes": ["c", "a"]}
    train(settings(tmp_path / "run", data=data, report={"num_images": 8}))
    (file,) = (tmp_path / "run").glob("evaluation-*.json")
    found = json.loads(file.read_text())
    assert found["reference_data"]["classes"] == ["c", "a"]
    reference, floor = (found["label_counts"][name] for name in ("reference", "floor"))
    assert Counter(reference) + Counter(floor) == {"c": 4, "a": 4}


def test_a_training_that_cannot_be_scored_still_ends_well(tmp_path, capsys):
    data = {"kind": "folder", "path": coloured(tmp_path / "data", "b"), "size": "16x16"}
    train(settings(tmp_path / "run", data=data, report={"num_images": 8}))
    said = capsys.readouterr().out
    assert "not scored: reference:" in said
    assert "python sample/generate.py" in said


def test_the_report_scores_against_the_held_out_images(tmp_path):
    trained, held_out = (coloured(tmp_path / name, "a", "b") for name in ("trained", "held"))
    data = {"kind": "folder", "path": trained, "size": "16x16"}
    asked = {"data": str(held_out), "every_images": 48, "images": 8, "bins": 2}
    train(settings(tmp_path / "run", data=data, validation=asked, report={"num_images": 8}))
    saved = json.loads((tmp_path / "run/evaluation-held-16x16.json").read_text())
    assert saved["places"]["reference"] == str(held_out)

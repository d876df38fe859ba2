"""Aligners trained on tiny random models by the real command: learning, resuming, refusing."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL
from PIL import Image
from safetensors.torch import load_file

import diffgen.commands.train_aligner as command
from diffgen.cli import launch
from diffgen.commands.train_aligner import train_aligner
from diffgen.config.lacon import LaconConfig
from diffgen.data.shapes import Shapes
from diffgen.errors import UserError
from diffgen.files import weights_digest
from diffgen.lacon.aligner import Aligner
from diffgen.lacon.conditions import DEPTH, EDGE, MASK, PALETTE
from diffgen.lacon.curve import cut_off, r2_curve, read_maps
from diffgen.lacon.load import fingerprint, load_aligner
from diffgen.lacon.training import (
    AlignerObjective,
    MappedData,
    Reader,
    draw,
    image_std,
    model_labels,
    stored_maps,
    with_positions,
)
from diffgen.pipeline import DiffGenPipeline
from tests.lacon_runs import pipeline, tiny_run

# diffusers hands a tensor to numpy the old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def settings(run: Path, **changes) -> LaconConfig:
    """A training of 96 images in 12 steps; ``section={...}`` changes single fields."""
    base = {
        "source": str(run),
        "condition": "palette",
        "device": "cpu",
        "schedule": {"warmup_images": 32},
        "train": {
            "images": 96,
            "batch_size": 8,
            "log_images": 24,
            "checkpoint_images": 32,
            "sample_images": 0,
        },
    }
    for section, fields in changes.items():
        base[section] = {**base.get(section, {}), **fields} if isinstance(fields, dict) else fields
    return LaconConfig.model_validate(base)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run folder of a model of shapes."""
    return tiny_run(tmp_path_factory.mktemp("runs") / "tiny")


@pytest.fixture(scope="module")
def few_measured():
    """Figures of 32 pictures, for speed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("diffgen.commands.aligner_report.MEASURED", 32)
        yield


@pytest.fixture(scope="module")
def uninterrupted(run, tmp_path_factory, few_measured) -> Path:
    out = tmp_path_factory.mktemp("aligners") / "whole"
    train_aligner(settings(run, out=out))
    return out


def lines(out: Path) -> list[dict]:
    """metrics.jsonl without what a clock measured."""
    found = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "images_per_second"} for line in found]


def tensors(out: Path) -> dict[str, torch.Tensor]:
    """Every tensor of the newest checkpoint and of the exported aligner, by file and name."""
    newest = sorted((out / "checkpoints").iterdir())[-1]
    return {
        f"{file.relative_to(out)}/{name}": tensor
        for folder in (newest, out / "aligner")
        for file in sorted(folder.glob("*.safetensors"))
        for name, tensor in load_file(file).items()
    }


def assert_same(one: Path, other: Path) -> None:
    assert lines(one) == lines(other)
    mine, theirs = tensors(one), tensors(other)
    assert mine.keys() == theirs.keys()
    assert len(mine) > 40
    for name, tensor in mine.items():
        assert torch.equal(tensor, theirs[name]), name
    for file in ("aligner/config.json", "r2.json", "origin.json"):
        assert (one / file).read_bytes() == (other / file).read_bytes()


class Killed(BaseException):
    """As sudden as a signal."""


def test_the_loss_falls_and_held_out_palettes_are_read(run, few_measured, capsys):
    """By default beside the model; what sampling needs to know is stored with the weights."""
    before = weights_digest(run / "pipeline")
    often = {"images": 3200, "batch_size": 32, "log_images": 320, "sample_images": 1600}
    train_aligner(settings(run, train=often, optimizer={"lr": 1e-2}))
    out = run / "aligners" / "palette"
    assert {path.name for path in out.iterdir()} >= {
        *("config.yaml", "metrics.jsonl", "samples", "checkpoints", "aligner", "r2.png"),
    }
    assert sorted(path.name for path in (out / "samples").iterdir()) == [
        "images-000001600.png",
        "images-000003200.png",
    ]
    losses = [line["loss"] for line in lines(out)]
    assert len(losses) == 10
    assert losses[-1] < 0.6 * losses[0]
    pipe = DiffGenPipeline.from_pretrained(run)
    aligner = load_aligner(out, pipe.transformer)
    found = aligner.config
    assert max(found.r2.values()) > 0.3
    assert found.r2["0.1"] > found.r2["1"] + 0.2
    assert found.until == cut_off(found.r2)
    assert json.loads((out / "r2.json").read_text())["pictures"] == "held-out"
    pixels = torch.stack([Shapes(16, 16, "train")[i][0] for i in range(512)])
    assert found.image_std == pytest.approx(image_std(pixels), rel=0.1)
    average = load_file(sorted((out / "checkpoints").iterdir())[-1] / "ema-constant.safetensors")
    exported = aligner.state_dict()
    assert all(torch.equal(exported[name], weight) for name, weight in average.items())
    said = capsys.readouterr().out
    assert "R² of palette on 32 held-out pictures" in said
    assert f"python sample/generate.py {run} --constraint palette=sketch.png" in said
    assert weights_digest(run / "pipeline") == before


def test_a_killed_training_goes_on_as_if_nothing_had_happened(
    run, uninterrupted, tmp_path, monkeypatch, few_measured
):
    """Killed at image 72: past a checkpoint (64), in the middle of a line of the log (48, 72)."""
    config = settings(run, out=tmp_path / "run", train={"sample_images": 24})
    draw_reading = command.draw_reading

    def kill(examples, aligner, condition, low, target):
        draw_reading(examples, aligner, condition, low, target)
        if "72" in target.name:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(command, "draw_reading", kill)
        with pytest.raises(Killed):
            train_aligner(config)
    assert not (config.out / "r2.json").exists()
    train_aligner(config)
    assert_same(config.out, uninterrupted)


def test_the_same_command_on_a_finished_aligner_changes_nothing(run, uninterrupted, tmp_path):
    again = tmp_path / "again"
    shutil.copytree(uninterrupted, again)
    (again / "aligner/config.json").unlink()  # as if killed before it was written
    train_aligner(settings(run, out=again))
    assert_same(again, uninterrupted)
    train_aligner(settings(run, out=tmp_path / "seed", seed=1))
    assert lines(tmp_path / "seed") != lines(uninterrupted)


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
    shutil.copytree(run, tmp_path / "moved")
    train_aligner(settings(tmp_path / "moved", out=uninterrupted))
    other = tiny_run(tmp_path / "other", depth=3)
    with pytest.raises(UserError, match=r"source: .*other is another model than .*whole was"):
        train_aligner(settings(other, out=uninterrupted))


def test_a_bad_loss_stops_the_training_and_names_the_last_good_checkpoint(
    run, tmp_path, few_measured
):
    with pytest.raises(UserError, match=r"NaN or infinite .*none was saved yet; lower --optimizer"):
        train_aligner(
            settings(
                run,
                out=tmp_path / "bad",
                optimizer={"lr": 1e30},
                schedule={"warmup_images": 0},
            )
        )
    assert not (tmp_path / "bad/aligner").exists()


def test_an_aligner_that_reads_nothing_says_so(run, tmp_path, few_measured, capsys):
    still = {"lr": 1e-30}
    train_aligner(settings(run, out=tmp_path / "still", condition="edge", optimizer=still))
    said = capsys.readouterr().out
    assert "the aligner has learnt nothing that could steer: R² of edge is -" in said
    assert "python sample/generate.py" not in said
    assert json.loads((tmp_path / "still/r2.json").read_text())["until"] == 1.0


def test_a_model_of_latents_is_read_at_the_size_of_its_latents(
    vae_folder, tmp_path, few_measured, capsys
):
    """Its own VAE encodes, and a thin edge stays one when its map shrinks."""
    vae = AutoencoderKL.from_pretrained(vae_folder)
    run = tiny_run(tmp_path / "run", vae=vae)
    train_aligner(settings(run, condition="edge", optimizer={"lr": 1e-2}))
    pipe = DiffGenPipeline.from_pretrained(run)
    aligner = load_aligner(run / "aligners/edge", pipe.transformer)
    reader = Reader(EDGE, torch.device("cpu"), command.encoder(pipe))
    pictures = torch.stack([Shapes(16, 16, "train")[i][0] for i in range(64)])
    x0, maps = reader(pictures, None)
    assert x0.shape == (64, 4, 8, 8)
    assert aligner.config.image_std == pytest.approx(image_std(x0), rel=0.2)
    whole = EDGE.of(pictures).unflatten(3, (8, 2)).unflatten(2, (8, 2))
    assert torch.equal(maps, whole.amax(dim=(3, 5)))
    read = read_maps(pipe.denoiser([]), aligner, EDGE, x0, 0.1, torch.zeros(64, dtype=torch.int64))
    assert read.shape == maps.shape
    said = capsys.readouterr().out
    assert "on blocks 0, 1 of 2" in said


def test_the_maps_of_shapes_are_their_own_where_they_have_them():
    images = Shapes(16, 16, "train")
    assert [stored_maps(images, c) for c in (MASK, DEPTH, EDGE)] == ["mask", "depth", None]
    data = MappedData(images, 3, "mask")
    for number in (0, 17):
        index = data.order.index(number)
        assert torch.equal(data[number]["map"], images.maps(index)["mask"])
        assert torch.equal(data[number]["image"], images[index][0])
    samples = [data[number] for number in range(4)]
    pictures, stored = (torch.stack([s[key] for s in samples]) for key in ("image", "map"))
    _, maps = Reader(MASK, torch.device("cpu"))(pictures, stored)
    assert torch.equal(maps, (stored >= 0.5).float())
    assert not torch.equal(maps, MASK.of(pictures))


def objective_of(pipe: DiffGenPipeline, condition=PALETTE, **options) -> AlignerObjective:
    given = {"seed": 0, "class_dropout": 0.5, "low": 0.1, "labels": torch.arange(8), **options}
    reader = Reader(condition, torch.device("cpu"))
    return AlignerObjective(denoiser=pipe.denoiser([]), reader=reader, blocks=(0, 1), **given)


def batch_of(numbers: list[int], data: MappedData) -> dict:
    samples = [data[number] for number in numbers]
    labels = torch.tensor([sample["label"] for sample in samples])
    image = torch.stack([sample["image"] for sample in samples])
    return {"image": image, "label": labels, "number": torch.tensor(numbers)}


@pytest.mark.parametrize(
    "options",
    [{}, {"position": {"kind": "rpe2d", "inference": "random"}}],
    ids=["sincos", "drawn positions"],
)
def test_the_loss_of_a_sample_is_its_own_whatever_the_batch(options):
    pipe = pipeline(**options)
    objective, data = objective_of(pipe), MappedData(Shapes(16, 16, "train"), 0, None)
    torch.manual_seed(0)
    aligner = Aligner.of(pipe.transformer, "palette", 3)
    with torch.no_grad():
        together = objective(aligner, batch_of([4, 5, 6, 7], data))
        alone = [objective(aligner, batch_of([n], data)) for n in (4, 5, 6, 7)]
        again = objective(aligner, batch_of([4, 5, 6, 7], data))
        other = objective(aligner, batch_of([8, 9, 10, 11], data))
    assert together == again
    assert together.item() == pytest.approx(float(torch.stack(alone).mean()), rel=1e-5)
    assert abs(float(other - together)) > 1e-4
    drawn = with_positions(objective.denoiser, 0, [4, 5]).position_seeds
    assert (drawn is None) == (options == {})


def test_only_the_aligner_gets_gradients_and_the_frozen_model_keeps_nothing():
    pipe = pipeline()
    pipe.transformer.requires_grad_(False)
    objective, data = objective_of(pipe), MappedData(Shapes(16, 16, "train"), 0, None)
    before = {name: p.clone() for name, p in pipe.transformer.named_parameters()}
    aligner = Aligner.of(pipe.transformer, "palette", 3, fusion="mix")
    optimiser = torch.optim.AdamW(aligner.parameters(), 0.1)
    objective(aligner, batch_of([0, 1, 2, 3], data)).backward()
    assert all(p.grad.abs().max() > 0 for p in aligner.parameters())
    optimiser.step()
    assert not pipe.transformer.training
    assert all(p.grad is None for p in pipe.transformer.parameters())
    for name, p in pipe.transformer.named_parameters():
        assert torch.equal(p, before[name])


def test_labels_are_dropped_to_the_null_class_and_an_unconditional_model_knows_no_other():
    """With every label dropped, classes make no difference; with none dropped they do."""
    data = MappedData(Shapes(16, 16, "train"), 0, None)
    batch = batch_of([0, 1, 2, 3], data)
    moved = {**batch, "label": (batch["label"] + 1) % 8}

    def losses(pipe, **options) -> list[float]:
        objective = objective_of(pipe, **options)
        torch.manual_seed(0)
        aligner = Aligner.of(pipe.transformer, "palette", 3)
        return [objective(aligner, one).item() for one in (batch, moved)]

    dropped, kept = (losses(pipeline(), class_dropout=share) for share in (1.0, 0.0))
    assert dropped[0] == dropped[1]
    assert kept[0] != kept[1]
    blind = losses(pipeline(num_classes=0), class_dropout=0.0, labels=torch.zeros(8).long())
    assert blind[0] == blind[1]


def test_times_are_uniform_above_the_lowest_and_belong_to_the_samples():
    t, drop, noise = draw(7, list(range(2000)), (1, 2, 2), 0.2)
    assert 0.2 <= t.min() < 0.205
    assert 0.995 < t.max() < 1
    assert t.mean() == pytest.approx(0.6, abs=0.02)
    assert drop.mean() == pytest.approx(0.5, abs=0.03)
    alone = draw(7, [1234], (1, 2, 2), 0.2)
    for mine, all_of in zip(alone, (t, drop, noise), strict=True):
        assert torch.equal(mine[0], all_of[1234])
    assert not torch.equal(draw(8, [1234], (1, 2, 2), 0.2)[2], alone[2])


def test_classes_are_known_by_name_or_by_number_where_the_model_has_no_names():
    assert model_labels(["star", "ring"], ["ring", "heart", "star"], 3) == ([2, 0], True)
    assert model_labels(["a", "star"], ["ring", "heart", "star"], 3) == ([3, 3], False)
    assert model_labels(["a", "b"], [], 1000) == ([0, 1], True)
    assert model_labels(["a", "b"], [], 0) == ([0, 0], True)


def test_drawn_positions_belong_to_the_pictures_of_a_curve_whatever_the_batch():
    pipe = pipeline(position={"kind": "rpe2d", "inference": "random"})
    x0 = torch.stack([Shapes(16, 16, "held_out")[i][0] for i in range(5)])
    noise, labels = torch.randn(x0.shape), torch.arange(5)
    aligner = Aligner.of(pipe.transformer, "palette", 3).eval()
    denoiser = with_positions(pipe.denoiser([]), 0, [0, 1, 2, 3, 4])
    whole, parts = (
        r2_curve(
            denoiser,
            aligner,
            PALETTE,
            x0,
            PALETTE.of(x0),
            labels,
            noise,
            times=[0.5],
            batch_size=size,
        )["0.5"]
        for size in (5, 2)
    )
    assert whole == pytest.approx(parts, rel=1e-5)
    others = with_positions(pipe.denoiser([]), 1, [0, 1, 2, 3, 4])
    read = [read_maps(d, aligner, PALETTE, x0, 0.5, labels) for d in (denoiser, others)]
    assert not torch.allclose(*read, atol=1e-4)


def test_the_cut_off_is_the_greatest_time_of_nine_tenths_of_the_best():
    assert cut_off({"0.1": 0.8, "0.3": 0.73, "0.5": 0.71, "0.7": 0.2}) == 0.3
    assert cut_off({"0.1": -0.2, "0.5": 0.01}) == 0.5
    assert cut_off({"0.1": -0.2, "0.5": -0.1}) == 1.0  # nothing to steer by, at no time


def test_an_aligner_lies_in_the_run_of_its_model_or_a_lone_pipeline(run, tmp_path, monkeypatch):
    lone = tmp_path / "lone"
    shutil.copytree(run / "pipeline", lone)
    data = {"data": {"kind": "shapes", "size": "16x16"}}
    places = {
        str(run): run / "aligners/edge",
        str(run / "pipeline"): run / "aligners/edge",
        str(lone): lone.with_name("lone-aligners") / "edge",
    }
    for source, place in places.items():
        assert LaconConfig(source=source, **data).settled("edge").out == place
    monkeypatch.chdir(run / "pipeline")
    assert LaconConfig(source=".").settled("edge").out == Path("../aligners/edge")
    assert fingerprint(DiffGenPipeline.from_pretrained(lone).transformer) == fingerprint(
        DiffGenPipeline.from_pretrained(run).transformer
    )


def test_pictures_of_several_sizes_are_cropped_to_one_and_drawn_ones_are_whole(tmp_path):
    mixed = {"kind": "shapes", "size": "32x32", "crop": "mixed"}
    given = LaconConfig(source=str(tiny_run(tmp_path / "mixed", mixed))).settled("edge")
    assert (given.data.crop, given.data.size, given.replaced) == ("center", "32x32", "mixed")
    random = {"kind": "shapes", "size": "16x16", "crop": "random", "crop_scale": 0.3}
    given = LaconConfig(source=str(tmp_path / "mixed"), data=random).settled("edge")
    assert (given.data.crop, given.data.crop_scale, given.replaced) == ("center", 0.6, "random")
    assert list(given.data.problems()) == []
    folder = {"kind": "folder", "path": tmp_path, "size": "16x16", "crop": "random"}
    kept = LaconConfig(source=str(tmp_path / "mixed"), data=folder).settled("edge")
    assert (kept.data.crop, kept.replaced) == ("random", None)


def test_the_next_command_finds_an_aligner_wherever_it_lies(run, tmp_path, few_measured, capsys):
    """Sampling looks for a folder with the condition's name, by default beside the model."""
    quick = {"train": {"images": 400}, "optimizer": {"lr": 0.02}}
    train_aligner(settings(run, out=tmp_path / "palette", **quick))
    draw = f"  python sample/generate.py {run}"
    given = capsys.readouterr().out
    assert given.endswith(f"{draw} --aligners {tmp_path} --constraint palette=sketch.png\n")
    train_aligner(settings(run, out=tmp_path / "mine", **quick))
    moved = capsys.readouterr().out
    assert f"  mv {tmp_path / 'mine'} {run / 'aligners/palette'}\n{draw} --constraint" in moved


def refusal(argv: list[str], capsys) -> str:
    """The one message that ``train/lacon.py`` ends with."""
    assert launch("lacon", argv, "lacon") == 2
    return capsys.readouterr().err


def test_wrong_input_is_refused_with_one_message(run, uninterrupted, tmp_path, capsys):
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    for i in range(4):
        Image.new("RGB", (16, 16), (40 * i, 9, 9)).save(photographs / f"{i}.png")
    folder = ["--data.kind", "folder", "--data.path", str(photographs)]
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
        (["--low", "1"], "low: input should be less than or equal to 0.95"),
        (["--optimizer.kind", "muon"], "optimizer.kind: input should be 'adamw'"),
        (["--train.accumulation", "3"], "train.accumulation: 3 does not divide train.batch_size"),
        (["--data.kind", "shapes", "--data.size", "17x16"], "data.size: 17x16 is not divisible"),
        (["--data.kind", "folder", "--data.path", "gone"], "data.path: gone does not exist"),
        (["--vae", "gone"], "vae: gone is not needed"),
        (["--out", str(run)], "is the folder of a model; an aligner needs one of its own"),
        (["--out", str(photographs / "0.png")], "0.png is not a folder"),
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

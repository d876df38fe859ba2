"""Aligners trained on tiny random models by the real command: learning, resuming, telling."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file

import diffgen.commands.train_aligner as command
from diffgen.commands.aligner_report import closing
from diffgen.commands.train_aligner import train_aligner
from diffgen.config.lacon import LaconConfig
from diffgen.config.process import DDPMConfig
from diffgen.data.shapes import Shapes
from diffgen.files import weights_digest
from diffgen.lacon.conditions import EDGE, PALETTE
from diffgen.lacon.curve import cut_off
from diffgen.lacon.load import load_aligner
from diffgen.lacon.training import Reader, image_std
from diffgen.pipeline import DiffGenPipeline
from diffgen.processes.ddpm import DDPM
from tests.lacon_runs import settings, tensors, tiny_run
from tests.late import RANDOM
from tests.logs import curve
from tests.trainings import assert_same_tensors

# diffusers hands a tensor to numpy the old way.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.usefixtures("few_measured"),
]

WANTED = "palette=PICTURE.png --constraint-from picture"


def assert_same(one: Path, other: Path) -> None:
    assert curve(one) == curve(other)
    assert_same_tensors(tensors(one), tensors(other), more_than=40)
    for file in ("aligner/config.json", "r2.json", "origin.json"):
        assert (one / file).read_bytes() == (other / file).read_bytes()


class Killed(BaseException):
    """As sudden as a signal."""


def test_the_loss_falls_and_held_out_palettes_are_read(run, capsys):
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
    losses = [line["loss"] for line in curve(out)]
    assert len(losses) == 10
    assert losses[-1] < 0.6 * losses[0]
    pipe = DiffGenPipeline.from_pretrained(run)
    aligner = load_aligner(out, pipe.transformer)
    found = aligner.config
    assert max(found.r2.values()) > 0.3
    assert found.r2["0.1"] > found.r2["1"] + 0.2
    assert len(found.r2) == 20
    assert min(map(float, aligner.config.r2)) == 0.05
    assert found.until == cut_off(found.r2)
    assert json.loads((out / "r2.json").read_text())["pictures"] == "held-out"
    pixels = torch.stack([Shapes(16, 16, "train")[i][0] for i in range(512)])
    assert found.image_std == pytest.approx(image_std(pixels), rel=0.1)
    average = load_file(sorted((out / "checkpoints").iterdir())[-1] / "ema-constant.safetensors")
    exported = aligner.state_dict()
    assert all(torch.equal(exported[name], weight) for name, weight in average.items())
    said = capsys.readouterr().out
    assert "R² of palette on 32 held-out pictures" in said
    assert f"python sample/generate.py {run} --constraint {WANTED}" in said
    assert weights_digest(run / "pipeline") == before


def test_a_killed_training_goes_on_as_if_nothing_had_happened(
    run, uninterrupted, tmp_path, monkeypatch
):
    """Killed at image 72: past a checkpoint (64), in the middle of a line of the log (48, 72)."""
    config = settings(run, out=tmp_path / "run", train={"sample_images": 24})
    draw_reading = command.draw_reading

    def kill(*given):
        draw_reading(*given)
        if "72" in given[-1].name:
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
    assert curve(tmp_path / "seed") != curve(uninterrupted)


def test_an_aligner_that_reads_nothing_says_so(run, tmp_path, capsys):
    still = {"lr": 1e-30}
    train_aligner(settings(run, out=tmp_path / "still", condition="edge", optimizer=still))
    said = capsys.readouterr().out
    assert "the aligner has learnt nothing that could steer: R² of edge is -" in said
    assert "python sample/generate.py" not in said
    assert json.loads((tmp_path / "still/r2.json").read_text())["until"] == 1.0


def test_a_model_of_latents_is_read_at_the_size_of_its_latents(vae_folder, tmp_path, capsys):
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
    said = capsys.readouterr().out
    assert "on blocks 0, 1 of 2" in said


def test_a_chain_with_learned_variance_and_drawn_positions_is_read_down_to_its_first_step(
    tmp_path, monkeypatch
):
    """Of 25 steps: the lowest time allowed, 0.001, would round to none."""
    chain = DDPMConfig(learned_variance=True, num_train_timesteps=25)
    options = {"prediction": "v", "out_channels": 6, "position": RANDOM}
    run, asked, own_time = tiny_run(tmp_path, chain=chain, **options), [], DDPM.own_time

    def watched(process, t):
        asked.append(float(own_time(process, t).min()))
        return own_time(process, t)

    monkeypatch.setattr(DDPM, "own_time", watched)
    train_aligner(settings(run, low=0.001, optimizer={"lr": 1e-2}, train={"images": 400}))
    assert min(asked) == 0
    model = DiffGenPipeline.from_pretrained(run).transformer
    aligner = load_aligner(run / "aligners/palette", model)
    assert min(map(float, aligner.config.r2)) == 0.04
    r2 = list(aligner.config.r2.values())
    assert len(r2) == 21
    assert max(r2[:10]) > max(0.05, r2[-1])


def test_the_next_command_finds_an_aligner_wherever_it_lies(tmp_path):
    """Sampling looks for a folder with the condition's name, by default beside the model."""
    run = tiny_run(tmp_path / "run")
    draw = f"  python sample/generate.py {run}"

    def told(out: Path | None) -> str:
        return closing(settings(run, out=out).settled("palette"), PALETTE, until=0.5, best=0.4)

    assert told(None).endswith(f"t > 0.5\n\nnext\n{draw} --constraint {WANTED}")
    assert told(tmp_path / "palette").endswith(
        f"{draw} --aligners {tmp_path} --constraint {WANTED}"
    )
    moved = f"  mv {tmp_path / 'mine'} {run / 'aligners/palette'}\n{draw} --constraint"
    assert moved in told(tmp_path / "mine")
    (run / "aligners/palette").mkdir(parents=True)  # mv would put another into it
    beside = f"  mv {tmp_path / 'mine'} {tmp_path / 'palette'}\n{draw} --aligners {tmp_path} "
    assert f"\nnext\n{beside}" in told(tmp_path / "mine")


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

"""Trainings on prepared latents by the real command: equal to encoding on the fly, or refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import diffgen.commands.train as command
from diffgen import DiffGenPipeline
from diffgen.cli import main
from diffgen.commands.train import train
from diffgen.config.latent_index import read_index
from diffgen.config.latents import LatentsConfig
from diffgen.config.train import TrainConfig
from diffgen.errors import UserError
from tests.prepared import MIXED_SIZES, SHAPES, made, pictures

# diffusers hands a tensor to numpy the old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

WEIGHTS = "diffusion_pytorch_model.safetensors"


def run(out: Path, data: dict[str, Any], vae: Any = None, **changes: Any) -> Path:
    """A training of 48 images in 6 steps; ``vae``: a section, or None."""
    base: dict[str, Any] = {
        "out": out,
        "device": "cpu",
        "data": data,
        "vae": vae,
        "model": {"depth": 1, "hidden_size": 32, "num_heads": 2, "patch_size": 2},
        "train": {
            **{"images": 48, "batch_size": 8, "log_images": 8},
            **{"checkpoint_images": 16, "sample_images": 0},
        },
        "sampling": {"scheduler": "euler", "steps": 1},
        "report": {"sizes": ["16x24"], "num_images": 0},
    }
    for name, value in changes.items():
        base[name] = {**base.get(name, {}), **value} if isinstance(value, dict) else value
    train(TrainConfig.model_validate(base))
    return out


def losses(out: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (out / "metrics.jsonl").read_text().splitlines()]


def stored(path: Path, **more: Any) -> dict[str, Any]:
    return {"kind": "latents", "path": str(path), **more}


@pytest.fixture(scope="module")
def latents(tmp_path_factory, vae_folder):
    """Of 20 scenes of 16 x 24; not to be changed."""
    return made(tmp_path_factory.mktemp("latents") / "whole", vae_folder)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, latents):
    return run(tmp_path_factory.mktemp("runs") / "whole", stored(latents))


def test_from_prepared_latents_of_single_precision_losses_are_those_of_encoding_on_the_fly(
    trained, tmp_path, vae_folder
):
    wanted = losses(run(tmp_path / "fly", SHAPES, {"path": str(vae_folder)}))
    assert len(wanted) == 6
    assert losses(trained) == pytest.approx(wanted, abs=1e-4)
    short = made(tmp_path / "short", vae_folder, dtype="float16")
    found = losses(run(tmp_path / "run", stored(short)))
    assert found == pytest.approx(wanted, abs=1e-3)
    assert found != losses(trained)


@pytest.mark.parametrize(
    "data",
    [{"size": "16x24"}, {"size": "24x24", "crop": "none"}],
    ids=["one size", "mixed sizes"],
)
def test_so_are_those_of_pictures_mirrored_and_told_of_their_crops(
    tmp_path, vae_folder, data, monkeypatch
):
    """And batches are cut into the same pieces of up to 40 tokens, which are of 4 x 4 pixels."""
    real, pieces = command.cut_to_budget, []

    def seen(*given):
        found = list(real(*given))
        pieces.append([len(piece["number"]) for piece in found])
        return iter(found)

    monkeypatch.setattr(command, "cut_to_budget", seen)
    data = {"kind": "folder", "path": str(pictures(tmp_path / "p", MIXED_SIZES)), **data}
    more = {"model": {"micro": "pixels", "class_dropout": 0.5}}
    more |= {"train": {"token_budget": 40, "images": 24}, "report": {"sizes": ["24x24"]}}
    wanted = losses(run(tmp_path / "fly", data, {"path": str(vae_folder)}, **more))
    path = made(tmp_path / "latents", vae_folder, data, shard_images=3)
    assert losses(run(tmp_path / "run", stored(path), **more)) == pytest.approx(wanted, abs=1e-4)
    assert pieces[:3] == pieces[3:]
    assert all(len(one) > 1 for one in pieces)


@pytest.mark.parametrize("verb", [("lacon",), ("nitro", "--real", "data")], ids=lambda v: v[0])
def test_what_is_trained_beside_such_a_model_needs_the_pictures(trained, latents, capsys, verb):
    argv = [verb[0], str(trained), *verb[1:], "--device", "cpu"]
    assert main(argv) == 2
    assert f"data.kind: {trained} was trained on prepared latents; give the pictures" in (
        capsys.readouterr().err
    )


def test_the_modes_too(tmp_path, vae_folder, latents):
    wanted = run(tmp_path / "fly", SHAPES, {"path": str(vae_folder), "sample": False})
    found = run(tmp_path / "run", stored(latents), {"sample": False})
    assert losses(found) == pytest.approx(losses(wanted), abs=1e-4)


def test_the_run_keeps_the_vae_and_the_statistics_of_the_index(tmp_path, latents):
    out = run(tmp_path, stored(latents), {"normalise": "per_channel"})
    statistics = read_index(latents).statistics
    form = json.loads((out / "latents.json").read_text())
    assert form == {
        "factor": 2,
        "mean": list(statistics.mean),
        "std": list(statistics.std),
    }
    for name, tensor in load_file(latents / "vae" / WEIGHTS).items():
        assert torch.equal(load_file(out / "vae" / WEIGHTS)[name], tensor)
    pipe = DiffGenPipeline.from_pretrained(out)
    assert pipe.latent_format.std == statistics.std
    assert list(pipe.config.class_names) == list(read_index(latents).class_names)
    assert pipe.geometry.multiple == 4


class Killed(BaseException):
    """As sudden as a signal."""


def test_a_killed_training_goes_on_as_if_nothing_had_happened(
    trained, tmp_path, latents, monkeypatch
):
    """Killed at image 40, past a checkpoint."""

    def kill(*_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(command, "draw_preview", kill)
        with pytest.raises(Killed):
            run(tmp_path, stored(latents), train={"sample_images": 40})
    run(tmp_path, stored(latents))
    assert losses(tmp_path) == losses(trained)


def test_the_end_says_that_latents_are_no_images_to_compare_with(tmp_path, latents, capsys):
    run(tmp_path, stored(latents), report={"num_images": 8})
    assert "not scored: prepared latents are no images to compare with" in capsys.readouterr().out


def refusal(*given: Any, **more: Any) -> str:
    with pytest.raises(UserError) as caught:
        run(*given, **more)
    return str(caught.value)


@pytest.fixture(scope="module")
def other_vae(tmp_path_factory, vae_folder):
    """With one weight changed."""
    folder = shutil.copytree(vae_folder, tmp_path_factory.mktemp("other") / "vae")
    tensors = load_file(folder / WEIGHTS)
    tensors["quant_conv.bias"][0] += 0.5
    save_file(tensors, folder / WEIGHTS)
    return folder


def test_another_vae_is_refused_and_both_are_named(
    tmp_path, latents, vae_folder, other_vae, make_vae
):
    said = refusal(tmp_path / "run", stored(latents), {"path": str(other_vae)})
    assert f"the latents were prepared with {vae_folder} (weights " in said
    assert f"but {other_vae} has other weights (" in said
    assert not (tmp_path / "run/vae").exists()
    scaled = make_vae(scaling_factor=0.5)
    said = refusal(tmp_path / "run", stored(latents), {"path": str(scaled)})
    assert "mean 0.1, 0.1, 0.1, 0.1 and std 1.42857, 1.42857, 1.42857, 1.42857, but" in said
    assert f"but {scaled} by mean 0.1, 0.1, 0.1, 0.1 and std 2, 2, 2, 2" in said
    run(tmp_path / "run", stored(latents), {"path": str(vae_folder)}, train={"images": 8})


def test_held_out_latents_are_measured_on(tmp_path, latents, vae_folder):
    held_out = {**SHAPES, "subset": "20:36"}
    same = made(tmp_path / "same", vae_folder, held_out)
    ask = {"every_images": 24, "images": 16, "bins": 4}
    out = run(tmp_path / "run", stored(latents), validation={**ask, "data": str(same)})
    lines = (out / "validation.jsonl").read_text().splitlines()
    assert [json.loads(line)["images"] for line in lines] == [24, 48]


def test_latents_of_another_vae_under_a_resumed_run_are_refused(
    tmp_path, vae_folder, other_vae, latents
):
    place = shutil.copytree(latents, tmp_path / "latents")
    out = run(tmp_path / "run", stored(place), {"normalise": "per_channel"})
    shutil.rmtree(place)
    made(place, other_vae)
    said = refusal(out, stored(place), {"normalise": "per_channel"})
    assert f"prepared with {other_vae}" in said
    assert f"{out / 'vae'} has other weights" in said


@pytest.mark.parametrize("normalise", ["none", "per_channel"])
def test_only_the_same_latents_prepared_anew_are_gone_on_with(
    tmp_path, vae_folder, latents, normalise
):
    place = shutil.copytree(latents, tmp_path / "latents")
    ask = stored(place), {"normalise": normalise}
    out = run(tmp_path / "run", *ask, train={"images": 24})
    shutil.rmtree(place)
    made(place, vae_folder, {**SHAPES, "subset": "20:40"})
    said = refusal(out, *ask)
    assert said.startswith(f"data.path: {out} was trained on other latents than are in {place} now")
    shutil.rmtree(place)
    made(place, vae_folder)
    run(out, *ask)
    assert len(losses(out)) == 6


@pytest.mark.parametrize("prepared", [True, False], ids=["prepared", "on the fly"])
def test_a_model_of_another_normalisation_is_no_start_unless_it_is_taken_over(
    trained, tmp_path, latents, vae_folder, prepared
):
    data, vae = (stored(latents), {}) if prepared else (SHAPES, {"path": str(vae_folder)})
    measured = {**vae, "normalise": "per_channel"}
    said = refusal(tmp_path / "run", data, measured, init=str(trained))
    assert f"init: {trained} was trained on latents normalised by mean 0.1, 0.1" in said
    assert "but vae.normalise per_channel gives mean " in said
    run(tmp_path / "none", data, vae, init=str(trained), train={"images": 8})
    other = run(tmp_path / "measured", data, measured, train={"images": 8})
    assert "init: " in refusal(tmp_path / "run", data, vae, init=str(other))
    taken = {**vae, "normalise": "init"}
    run(tmp_path / "run", data, taken, init=str(other), train={"images": 8})
    forms = [json.loads((out / "latents.json").read_text()) for out in (other, tmp_path / "run")]
    assert forms[0] == forms[1]
    said = refusal(tmp_path / "alone", data, taken)
    assert said == "vae.normalise: init takes that of a model of latents; give one with --init"


def test_a_recipe_that_states_the_crop_takes_latents_of_that_crop_alone(tmp_path, vae_folder):
    path = made(tmp_path, vae_folder)
    assert list(LatentsConfig(path=path, crop="center").problems()) == []
    [told] = LatentsConfig(path=path, crop="mixed").problems()
    assert told == f"data.crop: mixed, but the latents in {path} were prepared with center"

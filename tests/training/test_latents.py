"""Trainings on latents by the real command: statistics, resuming, exports, what is refused."""

import json
import shutil
from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import diffgen.commands.train as command
from diffgen import DiffGenPipeline
from diffgen.cli import launch
from diffgen.commands.train import train
from diffgen.config.train import TrainConfig
from diffgen.config.vae import VAEConfig, own_format
from diffgen.data.order import TrainingData
from diffgen.data.source import build_images
from diffgen.errors import UserError
from diffgen.files import link_folder
from diffgen.group import ALONE
from diffgen.models.vae import LatentSpace, load_vae
from diffgen.seeding import posterior_noise
from diffgen.training.latents import Encoder, measure
from diffgen.training.run_folder import RunFolder
from tests.trainings import changed

# diffusers hands a tensor to numpy the old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

WEIGHTS = "diffusion_pytorch_model.safetensors"


def settings(out: Path, vae_path: Path | str, **changes) -> TrainConfig:
    """A training of 48 images of 16 x 24 in 6 steps, on latents of 8 x 12."""
    base = {
        "out": out,
        "device": "cpu",
        "data": {"kind": "shapes", "size": "16x24"},
        "vae": {"path": str(vae_path), "normalise": "per_channel", "statistics_images": 20},
        "model": {"depth": 1, "hidden_size": 32, "num_heads": 2, "patch_size": 2},
        "train": {
            "images": 48,
            "batch_size": 8,
            "log_images": 8,
            "checkpoint_images": 16,
            "sample_images": 0,
        },
        "sampling": {"scheduler": "euler", "steps": 1},
        "report": {"sizes": ["16x24"], "num_images": 0},
    }
    return TrainConfig.model_validate(changed(base, changes))


class Killed(BaseException):
    """As sudden as a signal."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory, vae_folder):
    """A finished run, and the folder of its VAE."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    train(settings(out, vae_folder))
    return out


def losses(out: Path) -> list[tuple[int, float]]:
    lines = (out / "metrics.jsonl").read_text().splitlines()
    return [(line["images"], line["loss"]) for line in map(json.loads, lines)]


def weights(out: Path) -> dict[str, torch.Tensor]:
    """Every tensor of the last checkpoint and of the pipeline."""
    files = [
        *sorted((out / "checkpoints").iterdir())[-1].glob("*.safetensors"),
        *(out / "pipeline").rglob("*.safetensors"),
    ]
    assert len(files) == 5
    return {
        f"{file.parent.name}/{file.name}/{name}": tensor
        for file in files
        for name, tensor in load_file(file).items()
    }


def data_of(config: TrainConfig) -> TrainingData:
    return TrainingData(build_images(config.data), config.seed)


def test_statistics_bring_the_measured_images_to_mean_0_and_variance_1(trained, vae_folder):
    """Encoded as in the training, sample by sample, with diffusers called directly."""
    config, form = settings(trained, vae_folder), json.loads((trained / "latents.json").read_text())
    data, vae = data_of(config), load_vae(vae_folder)
    images = torch.stack([data[number]["image"] for number in range(20)])
    noise = posterior_noise(config.seed, list(range(20)), (4, 8, 12))
    with torch.no_grad():
        posterior = vae.encode(images).latent_dist
    z = (posterior.mean + posterior.std * noise).double()
    for channel in range(4):
        normal = (z[:, channel] - form["mean"][channel]) / form["std"][channel]
        assert normal.mean().item() == pytest.approx(0, abs=1e-5)
        assert normal.std(correction=0).item() == pytest.approx(1, abs=1e-5)
    assert len(set(form["std"])) == 4


def test_without_statistics_the_vaes_own_scale_or_the_one_given_is_recorded(tmp_path, vae_folder):
    for name, vae, std in (("own", {}, 1 / 0.7), ("given", {"scale": 0.25}, 4.0)):
        out = tmp_path / name
        train(settings(out, vae_folder, vae={"normalise": "none", **vae}, train={"images": 8}))
        form = json.loads((out / "latents.json").read_text())
        assert form == {"factor": 2, "mean": [0.1] * 4, "std": [pytest.approx(std)] * 4}
        assert DiffGenPipeline.from_pretrained(out).latent_format.std[0] == pytest.approx(std)


def test_the_encoder_samples_the_posterior_or_takes_its_mode(vae_folder):
    vae = load_vae(vae_folder)
    space = LatentSpace(vae, own_format(dict(vae.config)))
    images = data_of(settings(Path("unused"), vae_folder))[0]["image"][None].expand(3, -1, -1, -1)
    mode = Encoder(space, VAEConfig(path="x", sample=False), 0)
    assert torch.equal(mode(images, [0, 1, 2]), space.encode(images))
    drawn = Encoder(space, VAEConfig(path="x"), 0)
    one, other, same = drawn(images, [4, 5, 4])
    assert torch.equal(one, same)
    assert not torch.allclose(one, other, atol=1e-3)
    torch.testing.assert_close(drawn(images[:1], [5])[0], other, rtol=0, atol=1e-5)


def test_a_killed_training_goes_on_bit_for_bit_with_its_own_vae(
    trained, tmp_path, vae_folder, monkeypatch
):
    """Killed at image 40, past a checkpoint; the VAE it was given is gone when it goes on."""
    given = tmp_path / "given"
    shutil.copytree(vae_folder, given)
    config = settings(tmp_path / "run", given, train={"sample_images": 40})

    def kill(*_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(command, "draw_preview", kill)
        with pytest.raises(Killed):
            train(config)
    shutil.rmtree(given)
    train(config)
    assert losses(config.out) == losses(trained)
    mine, theirs = weights(config.out), weights(trained)
    assert mine.keys() == theirs.keys()
    for name, tensor in mine.items():
        assert torch.equal(tensor, theirs[name]), name
    assert (config.out / "latents.json").read_text() == (trained / "latents.json").read_text()


def test_the_loss_falls_below_what_latents_without_structure_would_allow(tmp_path, vae_folder):
    """White unit latents leave Var[eps - x0 | x_t] = 1 / ((1 - t)^2 + t^2)."""
    loop = {"images": 800, "batch_size": 16, "log_images": 160, "checkpoint_images": 800}
    train(
        settings(
            tmp_path,
            vae_folder,
            vae={"sample": False},
            model={"prediction": "velocity"},
            process={"times": {"mean": 0.0}},
            schedule={"warmup_images": 0},
            train=loop,
        )
    )
    curve = [loss for _, loss in losses(tmp_path)]
    t = torch.randn(10_000, generator=torch.Generator().manual_seed(0)).sigmoid()
    white = (1 / ((1 - t) ** 2 + t**2)).mean().item()
    assert 1.6 < white < 1.8
    assert curve[-1] < white < curve[0] < 2.5


def test_the_pipeline_shares_the_runs_vae_and_all_ways_of_loading_draw_one_picture(
    trained, vae_folder
):
    given = load_file(vae_folder / WEIGHTS)
    for name, tensor in load_file(trained / "vae" / WEIGHTS).items():
        assert torch.equal(tensor, given[name]), name
    for name in ("config.json", WEIGHTS):
        assert (trained / "pipeline/vae" / name).samefile(trained / "vae" / name)
    index = json.loads((trained / "pipeline/model_index.json").read_text())
    assert index["vae"] == ["diffusers", "AutoencoderKL"]
    assert index["latent_format"] == json.loads((trained / "latents.json").read_text())
    pictures = []
    for load in (DiffGenPipeline, diffusers.DiffusionPipeline):
        pipe = load.from_pretrained(str(trained / "pipeline"))
        pipe.set_progress_bar_config(disable=True)
        assert type(pipe) is DiffGenPipeline
        pictures += pipe(["star"], 24, 16, num_inference_steps=2, seed=0).images
    assert pictures[0].size == (16, 24)
    assert np.array_equal(*map(np.array, pictures))
    # The picture is the latents, scaled back and decoded by diffusers called directly.
    latents = pipe(["star"], 24, 16, num_inference_steps=2, seed=0, output_type="latent").images
    assert latents.shape == (1, 4, 12, 8)
    std, mean = (torch.tensor(index["latent_format"][k])[:, None, None] for k in ("std", "mean"))
    with torch.no_grad():
        decoded = load_vae(trained / "vae").decode(latents * std + mean).sample[0]
    wanted = ((decoded.permute(1, 2, 0) / 2 + 0.5).clamp(0, 1) * 255).numpy()
    assert abs(np.array(pictures[0], float) - wanted).max() <= 0.5 + 1e-3


def test_a_run_that_never_saved_starts_over_with_the_vae_it_is_given(
    tmp_path, vae_folder, make_vae
):
    """What an earlier start left in the folder is not mistaken for the run's own."""
    out = tmp_path / "run"
    (out / "vae").mkdir(parents=True)
    (out / "vae/config.json").write_text("{}")
    (out / "latents.json").write_text("[]")
    train(settings(out, make_vae(levels=3), train={"images": 8}, model={"patch_size": 1}))
    assert DiffGenPipeline.from_pretrained(out).geometry.multiple == 4


def resume(config: TrainConfig) -> str:
    """The message a resumed training is refused with; its checkpoints are left alone."""
    before = sorted((config.out / "checkpoints").iterdir())
    with pytest.raises(UserError) as caught:
        train(config)
    assert sorted((config.out / "checkpoints").iterdir()) == before
    return str(caught.value)


def test_a_resumed_run_that_lost_or_changed_its_vae_is_refused(
    trained, tmp_path, vae_folder, make_vae
):
    out = tmp_path / "run"
    shutil.copytree(trained, out)
    config = settings(out, vae_folder)
    assert "vae.path" in resume(settings(out, make_vae(latent_channels=8)))
    assert "None here" in resume(settings(out, vae_folder, vae=None))
    wrong = make_vae(latent_channels=8)
    shutil.rmtree(out / "vae")
    shutil.copytree(wrong, out / "vae")
    message = "has 8 latent channels at 1/2 of an image's side, but the run was trained on 4"
    assert message in resume(config)
    shutil.rmtree(out / "vae")
    assert "run/vae is gone, but the run was trained with it" in resume(config)
    shutil.copytree(vae_folder, out / "vae")
    (out / "latents.json").write_text('{"factor": 2, "mean": [0], "std": [0]}')
    assert "latents.json is damaged" in resume(config)
    (out / "latents.json").unlink()
    assert "latents.json is gone" in resume(config)


def test_a_constant_channel_cannot_be_normalised(tmp_path, vae_folder):
    shutil.copytree(vae_folder, tmp_path / "flat")
    tensors = load_file(vae_folder / WEIGHTS)
    tensors["quant_conv.weight"][2] = 0
    save_file(tensors, tmp_path / "flat" / WEIGHTS)
    vae = {"sample": False}
    with pytest.raises(UserError, match=r"vae\.normalise: channel 2 .* constant over 20 images"):
        train(settings(tmp_path / "run", tmp_path / "flat", vae=vae))


def test_statistics_of_fewer_images_than_asked_for_are_of_all(vae_folder):
    vae = load_vae(vae_folder)
    space = LatentSpace(vae, own_format(dict(vae.config)))
    config = settings(Path("unused"), vae_folder)
    data = data_of(config)
    data.images = [data.images[i] for i in range(6)]
    data.order.count = 6
    forms = [
        measure(
            Encoder(space, VAEConfig(path="x", statistics_images=n), 0), data, torch.device("cpu")
        )
        for n in (6, 1000)
    ]
    assert forms[0] == forms[1]


def test_a_run_on_pixels_has_no_encoder(tmp_path):
    config = TrainConfig(out=tmp_path)
    folder = RunFolder(tmp_path)
    assert command.open_encoder(config, ALONE, torch.device("cpu"), folder, data_of(config)) is None
    assert not list(tmp_path.iterdir())


def pngs(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted((folder / "24x16").iterdir())}


def test_the_commands_draw_and_score_a_run_on_latents(trained, tmp_path, capsys):
    """Sizes are pixels; without its VAE a run is refused, and drawn the same with it given."""
    options = ["--steps", "1", "--device", "cpu"]
    size = ["--size", "24x16", "--num-images", "2", *options]
    assert launch("sample", [str(trained), *size, "--out", str(tmp_path / "a")], "sample") == 0
    drawn = pngs(tmp_path / "a")
    assert len(drawn) == 2
    with Image.open(next((tmp_path / "a/24x16").iterdir())) as image:
        assert image.size == (16, 24)
    bare = tmp_path / "bare"
    shutil.copytree(trained, bare)
    shutil.rmtree(bare / "pipeline/vae")
    argv = [str(bare), *size, "--out", str(tmp_path / "b")]
    capsys.readouterr()
    assert launch("sample", argv, "sample") == 2
    said = capsys.readouterr().err
    assert said.startswith(f"sample: source: {bare} is a model of latents without a VAE; give one")
    assert len(said.splitlines()) == 1
    assert not (tmp_path / "b").exists()
    assert launch("sample", [*argv, "--vae", str(trained)], "sample") == 0
    assert pngs(tmp_path / "b") == drawn
    scored = ["--num-images", "8", *options, "--out", str(tmp_path / "scores.json")]
    assert launch("eval", [str(trained), *scored], "eval") == 0
    assert json.loads((tmp_path / "scores.json").read_text())["size"] == "16x24"


def test_a_disk_without_links_gets_copies(vae_folder, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError("links are not supported here")

    monkeypatch.setattr("os.link", refuse)
    link_folder(vae_folder, tmp_path / "copy")
    for file in vae_folder.iterdir():
        copied = tmp_path / "copy" / file.name
        assert copied.read_bytes() == file.read_bytes()
        assert not copied.samefile(file)


def test_latents_of_mixed_sizes_are_measured_and_trained_on(tmp_path, vae_folder):
    mixed = {"data": {"crop": "none", "size": "24x24"}, "model": {"micro": "pixels"}}
    train(settings(tmp_path / "run", vae_folder, **mixed, report={"sizes": ["24x24"]}))
    assert len(losses(tmp_path / "run")) == 6
    form = json.loads((tmp_path / "run/latents.json").read_text())
    assert form["std"] != [1.0] * 4

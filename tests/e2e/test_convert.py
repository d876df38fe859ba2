"""Published checkpoints as a user takes them in, draws, fine-tunes and writes them out."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from diffgen.config.command_line import parse
from diffgen.config.process import DDPMConfig
from diffgen.config.train import TrainConfig
from diffgen.models import DiT, released_weights

ROOT = Path(__file__).parents[2]
SHRUNK = [
    "--data.kind", "shapes", "--data.size", "16x16", "--model.depth", "1",
    "--model.hidden-size", "32", "--model.num-heads", "2", "--train.images", "64",
    "--train.batch-size", "32", "--train.log-images", "32", "--train.sample-images", "0",
    "--schedule.warmup-images", "32", "--sampling.steps", "2", "--sampling.batch-size", "16",
    "--report.num-images", "0", "--report.sizes", "16x24",
]  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a DiT of pixels in the released layout, its every weight drawn."""
    folder = tmp_path_factory.mktemp("user")
    model = DiT(
        sample_size=(16, 16), in_channels=3, out_channels=6, patch_size=4, hidden_size=32, depth=2,
        num_heads=2, mlp="mlp", qk_norm=False, num_classes=5, position={"kind": "sincos"},
        prediction="eps",
    )  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(0.1 * torch.randn(p.shape, generator=generator))
    weights = released_weights(model, DDPMConfig(learned_variance=True), "dit")
    torch.save({"ema": weights}, folder / "dit.pt")
    save_file(weights, folder / "expected.safetensors")
    return folder


def test_convert_draw_and_write_back(run, place):
    said = run("convert", "dit.pt", "converted", "--num-heads", "2")
    assert "predicts eps, 5 classes, 16x16 pixels, guidance on 3 of 3 channels" in said
    assert "diffgen sample converted --scheduler ddim" in said
    run(
        *("sample", "converted", "--scheduler", "ddim", "--steps", "3", "--size", "24x16"),
        *("--num-images", "4", "--out", "pictures"),
    )
    pictures = sorted((place / "pictures/24x16").glob("*.png"))
    assert len(pictures) == 4
    with Image.open(pictures[0]) as picture:
        assert picture.size == (16, 24)
    run("convert", "converted", "back.safetensors", "--to", "dit")
    back, expected = (load_file(place / f"{n}.safetensors") for n in ("back", "expected"))
    assert set(back) == set(expected)
    assert all(torch.equal(back[name], expected[name]) for name in back)
    told = run("convert", "converted", "back.safetensors", "--to", "fitv2", expect=2)
    assert "back.safetensors exists already" in told
    told = run("convert", "converted", "fit.pt", "--to", "fitv2", expect=2)
    assert "model.qk_norm: False (it must be True)" in told
    assert not (place / "fit.pt").exists()


def test_a_converted_model_fine_tunes_on_other_classes_and_another_size(run, place):
    run("convert", "dit.pt", "source", "--num-heads", "2")
    said = run(
        *("train", "--config", "source/finetune.yaml", "--init", "source"),
        *("--data.kind", "shapes", "--data.size", "24x32", "--out", "tuned"),
        *("--train.images", "64", "--train.batch-size", "32", "--train.log-images", "32"),
        *("--train.sample-images", "0", "--sampling.steps", "2", "--report.num-images", "0"),
        *("--report.sizes", "24x32"),
    )
    assert "started afresh: y_embedder.embedding_table.weight" in said
    assert said.count("started afresh") == 1
    config = json.loads((place / "tuned/pipeline/transformer/config.json").read_text())
    assert config["prediction"] == "eps"
    assert config["guidance_channels"] == 3
    assert config["out_channels"] == 6
    assert config["sample_size"] == [24, 32]
    lines = (place / "tuned/metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["images"] for line in lines] == [32, 64]


@pytest.mark.parametrize("recipe", ["dit", "sit", "fitv2"])
def test_recipes_train_shrunk_and_leave_as_published(run, place, recipe):
    config = str(ROOT / f"configs/{recipe}.yaml")
    run("train", "--config", config, *SHRUNK, "--out", recipe,
        *(("--model.patch-size", "2") if recipe == "fitv2" else ("--model.patch-size", "4"))
    )  # fmt: skip
    run("convert", recipe, f"{recipe}.safetensors", "--to", recipe)
    weights = load_file(place / f"{recipe}.safetensors")
    assert ("global_adaLN_modulation.1.weight" in weights) == (recipe == "fitv2")
    assert ("pos_embed" in weights) == (recipe != "fitv2")
    again = ("convert", f"{recipe}.safetensors", f"{recipe}-again", "--num-heads", "2")
    run(*again)
    stem = "transformer/diffusion_pytorch_model.safetensors"
    own = load_file(place / recipe / "pipeline" / stem)
    back = load_file(place / f"{recipe}-again" / stem)
    assert all(torch.equal(own[name], back[name]) for name in own)


@pytest.mark.parametrize(
    ("recipe", "size", "count"),
    [
        ("fitv2", "FiTv2-B", 128_149_072),
        ("fitv2", "FiTv2-XL", 671_045_776),
        ("fitv2", "FiTv2-3B", 2_971_928_080),
        ("dit", "XL", 674_834_720),
    ],
)
def test_recipes_have_the_published_number_of_parameters(recipe, size, count):
    config = parse(
        TrainConfig, ["--config", str(ROOT / f"configs/{recipe}.yaml"), "--model.size", size], ""
    )
    with torch.device("meta"):
        model = DiT.build(
            config.model, num_classes=1000, in_channels=4, sample_size=(32, 32),
            learned_variance=config.process.learned_variance,
        )  # fmt: skip
    assert sum(p.numel() for p in model.parameters()) == count


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["absent.pt", "x"], "absent.pt does not exist"),
        (["dit.pt", "x"], "no published model is 32 channels wide"),
        (["dit.pt", "x", "--num-heads", "3"], "3 does not divide"),
        (["dit.pt", "dit.pt"], "exists already"),
        (["dit.pt", "x", "--num-heads", "2", "--vae", "nothing"], "vae: nothing does not exist"),
        (["dit.pt", "x.pt", "--to", "sit"], "is a file"),
        (["dit.pt", "x", "--family", "fit"], "family"),
    ],
)
def test_mistakes(run, place, argv, message):
    assert message in run("convert", *argv, expect=2)
    assert not (place / "x").exists()

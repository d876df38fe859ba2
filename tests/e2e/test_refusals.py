"""Bad input as a user meets it: exit code 2, one message, no traceback, and torch never loaded."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.refused import check_refused, pipeline_folder, write_json

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    return pipeline_folder(tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module")
def latents(tmp_path_factory):
    """Folders with the JSON of VAEs, good and bad, and of a model of latents without one."""
    folder = tmp_path_factory.mktemp("latents")
    vae = {
        "_class_name": "AutoencoderKL",
        "in_channels": 3,
        "out_channels": 3,
        "latent_channels": 4,
        "block_out_channels": [8, 8],
    }
    changes = {
        "vae": {},
        "vae8": {"latent_channels": 8},
        "grey": {"in_channels": 1},
        "tiny": {"_class_name": "AutoencoderTiny"},
        "broken": {"block_out_channels": None},
    }
    for name, change in changes.items():
        write_json(folder / name / "config.json", {**vae, **change})
        (folder / name / "diffusion_pytorch_model.safetensors").touch()
    write_json(folder / "bare/config.json", vae)
    form = {"factor": 2, "mean": [0] * 4, "std": [1] * 4}
    model = {"patch_size": 2, "in_channels": 4, "num_classes": 2, "sample_size": [16, 16]}
    for name, index in (("model", {"latent_format": form}), ("unstated", {})):
        write_json(folder / name / "model_index.json", index)
        write_json(folder / name / "transformer/config.json", model)
    return folder


def latent_cases(latents, pipeline, tmp_path):
    """As ``cases``, about models of latents."""
    vae, model = str(latents / "vae"), str(latents / "model")
    train = ["--vae.path", vae]
    return [
        ("train", ["--vae.path", str(tmp_path / "gone")], "gone does not exist"),
        ("train", ["--vae.path", str(tmp_path / "file")], "is a file"),
        ("train", ["--vae.path", str(tmp_path / "empty")], "vae.path: "),
        ("train", ["--vae.path", str(tmp_path / "empty")], "holds no VAE (no config.json)"),
        ("train", ["--vae.path", str(latents / "bare")], "has no weights"),
        ("train", ["--vae.path", str(latents / "tiny")], "AutoencoderTiny, not an AutoencoderKL"),
        ("train", ["--vae.path", str(latents / "grey")], "images with 1 channels (in_channels)"),
        ("train", ["--vae.path", str(latents / "broken")], "config.json is damaged"),
        ("train", ["--vae.scale", "2"], "vae.path: is needed"),
        ("train", [*train, "--vae.normalise", "per_channel", "--vae.scale", "2"], "vae.scale: 2"),
        ("train", [*train, "--vae.precision", "bf16", "--device", "cpu"], "vae.precision: bf16"),
        ("train", [*train, "--data.size", "36x32"], "8, the VAE's factor 2 times the patch size 4"),
        ("train", [*train, "--report.sizes", "36x32"], "report.sizes: 36x32"),
        ("train", [*train, "--init", pipeline], "is a model of 3 channels, but the latents of"),
        ("train", ["--init", model], "is a model of 4 channels, but pixels have 3"),
        (
            "train",
            ["--vae.path", str(latents / "vae8"), "--init", model],
            "is a model of 4 channels, but the latents of",
        ),
        ("sample", [model], "is a model of latents without a VAE; give one with --vae"),
        ("eval", [model], "is a model of latents without a VAE; give one with --vae"),
        ("sample", [model, "--vae", vae, "--size", "34x32"], "4, the VAE's factor 2 times the"),
        ("sample", [model, "--vae", str(latents / "vae8")], "has 8 latent channels at 1/2"),
        ("sample", [model, "--vae", str(tmp_path / "gone")], "gone does not exist"),
        ("sample", [pipeline, "--vae", vae], "is not needed"),
        ("sample", [str(latents / "unstated")], "is a model of 4 channels, not of images"),
    ]


def cases(pipeline, tmp_path):
    """(verb, arguments, what the message must say)."""
    empty = tmp_path / "empty"
    empty.mkdir()
    file = tmp_path / "file"
    file.write_text("")
    folder = ["--data.kind", "folder", "--data.path", str(empty)]
    drawn = tmp_path / "drawn"
    (drawn / "8x8").mkdir(parents=True)
    for name in ("settings.json", "sheet-8x8.png"):
        (drawn / name).touch()
    return [
        ("train", ["--model.depht", "3"], "did you mean model.depth?"),
        ("train", ["--train.images", "lots"], "train.images"),
        ("train", ["--data.kind", "tapes"], "data.kind: 'tapes'"),
        ("train", ["--config", "no.yaml"], "no.yaml does not exist"),
        ("train", ["--data.size", "33x32"], "not divisible by the patch size 4"),
        ("train", ["--data.kind", "folder", "--data.path", str(empty)], "holds no images"),
        ("train", [*folder, "--data.background", "whitish"], "must be an opaque colour"),
        ("train", [*folder, "--data.max-pixels", "1e12"], "data.max_pixels"),
        ("train", [*folder, "--data.subset", "5:2"], "the stop must lie beyond the start"),
        ("train", [*folder, "--data.subset-seed", "1"], "changes nothing without data.subset"),
        ("train", [*folder, "--data.classes", "dog"], "'dog' is no folder"),
        ("train", [*folder, "--data.files", "none.txt"], "data.files: none.txt is not a file"),
        ("train", ["--data.kind", "hub"], "data.name: is needed"),
        ("train", ["--data.kind", "hub", "--data.name", "./none"], "./none does not exist"),
        (
            "train",
            ["--data.kind", "hub", "--data.name", str(file), "--data.configuration", "large"],
            "data.configuration: large means nothing to a file",
        ),
        ("train", ["--train.precision", "bf16", "--device", "cpu"], "bf16 needs a GPU"),
        ("train", ["--process.kind", "ddpm", "--model.prediction", "velocity"], "takes x0, v, eps"),
        ("train", ["--out", str(file / "run")], "cannot be made"),
        ("train", ["--out", "/proc/run"], "is not writable"),  # for root too
        ("sample", [str(tmp_path / "gone")], "does not exist"),
        ("sample", [str(empty)], "holds no pipeline"),
        ("sample", [pipeline, "--size", "30x32"], "not divisible by the patch size 4"),
        ("sample", [pipeline, "--size", "0x32"], "1 pixel or more"),
        ("sample", [pipeline, "--size", "-4x32"], "1 pixel or more"),
        ("sample", [pipeline, "--classes", "heart"], "class 'heart' is unknown"),
        ("sample", [pipeline, "--classes", "2"], "class 2 is out of range"),
        ("sample", [pipeline, "--scheduler", "lms"], "scheduler: input should be 'euler'"),
        ("sample", [pipeline, "--scheduler", "ddim"], "ddim cannot walk a flow model"),
        ("sample", [pipeline, "--dtype", "bf16", "--device", "cpu"], "bf16 needs a GPU"),
        ("sample", [pipeline, "--out", str(file / "x")], "cannot be made"),
        ("sample", [pipeline, "--num-images", "0"], "num_images"),
        ("sample", [], "SOURCE"),
        ("eval", [pipeline, "--reference", "nothing"], "neither shapes, digits nor a folder"),
        ("eval", [pipeline, "--reference", str(empty)], "holds no images"),
        ("eval", [str(tmp_path / "gone")], "does not exist"),
        ("eval", [str(tmp_path / "gone.npz")], "gone.npz does not exist or is no file"),
        ("eval", [str(file)], "is a file; give a model, a folder of images or an .npz"),
        ("eval", [pipeline, "--reference", f"{file}.npz"], "file.npz does not exist or is no file"),
        ("eval", [pipeline, "--out", str(empty)], "is a folder; name a JSON file"),
        ("eval", [pipeline, "--extractor", "inception", "--weights", "w.pth"], "w.pth does not"),
        ("eval", [pipeline, "--weights", str(file)], "the reader brings its own"),
        ("eval", [str(drawn)], f"with their sheets; give one of them: {drawn / '8x8'}"),
        ("eval", [pipeline, "--k", "0"], "k: input should be greater than or equal to 1"),
        ("memorization", ["--counts", "4,4"], "counts: [4, 4] names one twice"),
        ("memorization", ["--counts", "4,0"], "counts: input should be greater than or equal to 1"),
        ("memorization", ["--data.size", "18x16"], "not divisible by the patch size 4"),
        ("memorization", ["--data.crop", "random"], "data.crop: random would blur which images"),
    ]


def test_each_refusal_is_one_message_with_code_2_and_without_torch(pipeline, latents, tmp_path):
    wanted = cases(pipeline, tmp_path) + latent_cases(latents, pipeline, tmp_path)
    check_refused(wanted, tmp_path)


def test_a_script_exits_with_2_and_help_with_0(tmp_path):
    def run(*argv):
        return subprocess.run([sys.executable, *argv], cwd=tmp_path, capture_output=True, text=True)

    refused = run(str(ROOT / "train/dit.py"), "--modle.depth", "3")
    assert refused.returncode == 2
    assert refused.stderr == (
        "train/dit.py: --modle.depth: unknown option; did you mean model.depth?\n"
    )
    for script in ("train/dit.py", "sample/generate.py", "eval/evaluate.py", "train/reader.py"):
        helped = run(str(ROOT / script), "--help")
        assert helped.returncode == 0, script
        assert "usage:" in helped.stdout

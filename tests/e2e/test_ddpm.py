"""A DDPM model from training to scores, by the commands, and through a kill."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from diffgen import DiffGenPipeline
from diffgen.cli import launch
from diffgen.config.command_line import load
from diffgen.config.process import DDPMConfig, MinSNRWeighting
from diffgen.config.train import TrainConfig

# diffusers hands a tensor to numpy the old way.
from tests.trainings import killed_at_a_preview

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

RECIPE = """
device: cpu
data: {kind: shapes, size: 16x16}
model: {depth: 1, hidden_size: 32, num_heads: 2, patch_size: 4, prediction: eps}
process: {kind: ddpm, betas: cosine, learned_variance: true, weighting: {kind: min_snr}}
train: {images: 96, batch_size: 8, log_images: 24, checkpoint_images: 32, sample_images: 24}
schedule: {warmup_images: 32}
sampling: {scheduler: ddpm, steps: 2, batch_size: 16}
report: {num_images: 8, sizes: [16x16]}
"""


def train(*argv: str) -> None:
    assert launch("train", ["--config", "recipe.yaml", *argv], "train") == 0


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with the recipe and a finished run of it in ``run``."""
    path = tmp_path_factory.mktemp("user")
    (path / "recipe.yaml").write_text(RECIPE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        train("--out", "run")
    return path


@pytest.fixture(autouse=True)
def _there(folder, monkeypatch):
    monkeypatch.chdir(folder)


def curve(run: str) -> list[tuple[int, float, float]]:
    lines = map(json.loads, (Path(run) / "metrics.jsonl").read_text().splitlines())
    return [(line["images"], line["loss"], line["grad_norm"]) for line in lines]


def tensors(run: str) -> dict[str, torch.Tensor]:
    """Every tensor of the last checkpoint and the pipeline, by file and name."""
    last = sorted(Path(run, "checkpoints").iterdir())[-1]
    files = [*last.glob("*.safetensors"), *Path(run, "pipeline").rglob("*.safetensors")]
    return {f"{f.name}/{name}": tensor for f in files for name, tensor in load_file(f).items()}


def test_the_run_folder_is_one_of_a_ddpm_model():
    assert [row[0] for row in curve("run")] == [24, 48, 72, 96]
    scores = json.loads(Path("run/evaluation-shapes-16x16.json").read_text())
    assert scores["settings"]["scheduler"] == "ddpm"
    pipe = DiffGenPipeline.from_pretrained("run")
    assert pipe.process_config == DDPMConfig(betas="cosine", learned_variance=True)
    assert (pipe.transformer.config.prediction, pipe.transformer.config.out_channels) == ("eps", 6)
    assert load(TrainConfig, Path("run/config.yaml")).process == DDPMConfig(
        betas="cosine", learned_variance=True, weighting=MinSNRWeighting()
    )


def test_a_killed_training_goes_on_as_if_nothing_had_happened(monkeypatch):
    """Killed at image 72: past a checkpoint (64), in the middle of a line of the log."""
    with killed_at_a_preview(monkeypatch, 72):
        train("--out", "killed")
    assert curve("killed")[-1][0] == 72
    train("--out", "killed", "--report.num-images", "0")
    assert curve("killed") == curve("run")
    mine, theirs = tensors("killed"), tensors("run")
    assert mine.keys() == theirs.keys()
    assert len(mine) > 40
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in mine.items())


@pytest.mark.parametrize("scheduler", ["ddim", "ddpm", "dpmpp"])
def test_generate_draws_with_every_solver_whatever_the_batch(scheduler):
    argv = ["run", "--scheduler", scheduler, "--steps", "3", "--size", "8x16", "--num-images", "3"]
    for batch in ("1", "3"):
        out = f"{scheduler}-{batch}"
        assert launch("sample", [*argv, "--batch-size", batch, "--out", out], "sample") == 0
    for one in sorted(Path(f"{scheduler}-1/8x16").iterdir()):
        with Image.open(one) as a, Image.open(f"{scheduler}-3/8x16/{one.name}") as b:
            assert a.size == b.size == (16, 8)
            pairs = zip(a.tobytes(), b.tobytes(), strict=True)
            assert max(abs(p - q) for p, q in pairs) <= 1


def test_a_solver_of_flows_is_refused(capsys):
    assert launch("sample", ["run", "--scheduler", "euler"], "sample") == 2
    said = "sample: scheduler: euler cannot walk a ddpm model; use ddim, ddpm, dpmpp, lcm\n"
    assert capsys.readouterr().err == said


def test_another_process_is_no_resuming_but_may_start_from_its_weights(capsys):
    argv = ["--config", "recipe.yaml", "--out", "run", "--process.betas", "linear"]
    assert launch("train", argv, "train") == 2
    assert "process.betas: cosine there, linear here" in capsys.readouterr().err
    argv = ["--model.prediction", "velocity", "--process.kind", "flow", "--sampling.scheduler"]
    train("--out", "flow", *argv, "euler", "--init", "run", "--report.num-images", "0")
    said = capsys.readouterr().out
    assert "took" in said
    assert "started afresh" not in said  # of the output the prediction's half is taken


def test_the_loss_falls():
    train(
        *("--out", "learning", "--no-process.learned-variance", "--model.prediction", "v"),
        *("--train.images", "1600", "--train.batch-size", "16", "--train.log-images", "160"),
        *("--train.sample-images", "0", "--train.checkpoint-images", "1600"),
        *("--schedule.warmup-images", "0", "--report.num-images", "0"),
    )
    losses = [row[1] for row in curve("learning")]
    assert losses[-1] < 0.65 * losses[0]

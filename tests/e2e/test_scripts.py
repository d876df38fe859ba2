"""The scripts as a user runs them: train, kill, resume, sample, score."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
DEBUG = ["--config", str(ROOT / "configs/debug.yaml")]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def run(script: str, *argv: str, folder: Path) -> str:
    """Run a script to its end; what it printed."""
    done = subprocess.run(
        [sys.executable, str(ROOT / script), *argv],
        cwd=folder,
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a finished debug run in ``runs/debug``, and what the training printed."""
    folder = tmp_path_factory.mktemp("user")
    return folder, run("train/dit.py", *DEBUG, folder=folder)


def curve(run_folder: Path) -> list[tuple[int, float, float]]:
    """Images, loss and gradient norm of every line of metrics.jsonl."""
    lines = (run_folder / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    return [(row["images"], row["loss"], row["grad_norm"]) for row in rows]


def weights(run_folder: Path) -> dict[str, str]:
    """Digest of every weight file of the last checkpoint and the pipeline."""
    last = sorted((run_folder / "checkpoints").iterdir())[-1]
    files = [*last.glob("*.safetensors"), *(run_folder / "pipeline").rglob("*.safetensors")]
    assert len(files) == 4
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_training_leaves_a_whole_run_folder(trained):
    folder, said = trained
    out = folder / "runs/debug"
    assert [row[0] for row in curve(out)] == list(range(32, 257, 32))
    assert [p.name for p in sorted((out / "checkpoints").iterdir())] == [
        "images-000000192",
        "images-000000256",
    ]
    assert {p.name for p in (out / "samples").iterdir()} == {
        "images-000000128.png",
        "images-000000256.png",
        "sizes.png",
    }
    assert {p.suffix for p in (out / "pipeline").rglob("*") if p.is_file()} == {
        ".json",
        ".safetensors",
    }
    scores = json.loads((out / "evaluation-shapes-16x16.json").read_text())
    assert scores["counts"] == {"images": 16, "reference": 16, "floor": 16}
    assert scores["floor"]["scores"]["class_accuracy"] > scores["scores"]["class_accuracy"]
    for words in ("by reader", "class accuracy", "python sample/generate.py runs/debug"):
        assert words in said


@pytest.mark.slow
def test_the_same_command_on_a_finished_run_trains_no_further(trained):
    folder, _ = trained
    before = weights(folder / "runs/debug")
    run("train/dit.py", *DEBUG, "--report.num-images", "0", folder=folder)
    assert weights(folder / "runs/debug") == before


@pytest.mark.slow
def test_kill_9_and_again_equals_an_uninterrupted_run(trained):
    folder, _ = trained
    command = [sys.executable, str(ROOT / "train/dit.py"), *DEBUG, "--out", "runs/killed"]
    command += ["--report.num-images", "0"]
    process = subprocess.Popen(command, cwd=folder, env=ENVIRONMENT, stderr=subprocess.DEVNULL)
    out = folder / "runs/killed"
    deadline = time.monotonic() + 120
    while not list(out.glob("checkpoints/images-*")):  # the first is at 64 of 256 images
        assert process.poll() is None, "finished before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (out / "checkpoints/images-000000256").exists(), "killed too late to show anything"
    run("train/dit.py", *DEBUG, "--out", "runs/killed", "--report.num-images", "0", folder=folder)
    assert curve(out) == curve(folder / "runs/debug")
    assert weights(out) == weights(folder / "runs/debug")


@pytest.mark.slow
def test_generate_gives_the_sizes_asked_for_and_can_repeat_itself(trained):
    folder, _ = trained
    argv = ["runs/debug", "--size", "24x16", "--size", "16x32", "--classes", "star,0"]
    argv += ["--num-images", "3", "--steps", "2"]
    run("sample/generate.py", *argv, "--out", "a", folder=folder)
    run("sample/generate.py", *argv, "--out", "b", folder=folder)
    for size, (height, width) in {"24x16": (24, 16), "16x32": (16, 32)}.items():
        files = sorted((folder / "a" / size).iterdir())
        assert [file.name for file in files] == [
            "circle-seed0-00001.png",
            "star-seed0-00000.png",
            "star-seed0-00002.png",
        ]
        for file in files:
            with Image.open(file) as image:
                assert image.size == (width, height)
            assert file.read_bytes() == (folder / "b" / size / file.name).read_bytes()
        assert (folder / "a" / f"sheet-{size}.png").exists()
    settings = json.loads((folder / "a/settings.json").read_text())
    assert [image["number"] for image in settings["images"]] == [0, 1, 2, 0, 1, 2]
    assert settings["settings"]["steps"] == 2
    assert settings["scheduler"]["class"] == "DPMSolverMultistepScheduler"


@pytest.mark.slow
def test_evaluate_scores_a_folder_of_images(trained):
    folder, _ = trained
    run("sample/generate.py", "runs/debug", "--num-images", "8", "--out", "drawn", folder=folder)
    said = run(
        "eval/evaluate.py",
        *("drawn/16x16", "--reference", "shapes", "--size", "16x16", "--num-images", "8"),
        *("--out", "scores.json"),
        folder=folder,
    )
    assert "8 images against 8 real ones" in said
    content = json.loads((folder / "scores.json").read_text())
    assert content["scores"]["class_accuracy"] is None  # a flat folder names no class
    assert content["scores"]["fid"] > content["floor"]["scores"]["fid"]


@pytest.mark.slow
def test_evaluate_scores_real_pictures_like_the_floor(trained):
    """A folder of held-out shapes is as good as real, and its classes are read right."""
    from diffgen.data.pixels import to_pil, to_uint8
    from diffgen.data.shapes import Shapes

    folder, _ = trained
    shapes = Shapes(32, 32, "held_out")
    for i in range(5000, 5128):  # twice as many as are scored: a part must hold every class
        picture, label = shapes[i]
        target = folder / "real" / shapes.class_names[label] / f"{i}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        to_pil(to_uint8(picture[None]))[0].save(target)
    argv = ["real", "--size", "32x32", "--num-images", "64", "--out", "real.json"]
    run("eval/evaluate.py", *argv, folder=folder)
    content = json.loads((folder / "real.json").read_text())
    assert content["scores"]["class_accuracy"] >= 0.95
    assert content["scores"]["fid"] < 2 * content["floor"]["scores"]["fid"]

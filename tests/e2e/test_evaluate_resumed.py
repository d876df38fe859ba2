"""An evaluation that is killed goes on where it was, and gives the figures of one that was not."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from diffgen.cli import launch, main
from diffgen.commands.evaluate import parts_folder
from diffgen.config.evaluate import EvaluateConfig
from diffgen.files import locked
from tests.tiny import build

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

ROOT = Path(__file__).parents[2]
ARGV = ["--num-images", "48", "--batch-size", "1", "--steps", "8", "--device", "cpu"]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "tiny"
    build().save_pretrained(folder)
    return folder


def score(model: Path, out: Path, *more: str) -> dict:
    size = ["--size", "16x16"]
    assert launch("eval", [str(model), *ARGV, *size, "--out", str(out), *more], "eval") == 0
    return json.loads(out.read_text())


def keep_parts(monkeypatch) -> None:
    """Leave what an evaluation removes when it is done."""
    monkeypatch.setattr("diffgen.commands.parts.shutil.rmtree", lambda *_, **__: None)


def test_killed_in_the_middle_it_goes_on_and_finds_the_same(model, tmp_path, monkeypatch):
    out = tmp_path / "killed.json"
    command_line = [sys.executable, str(ROOT / "eval/evaluate.py"), str(model), *ARGV]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    running = subprocess.Popen(
        [*command_line, "--size", "16x16", "--out", str(out)],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    until = time.monotonic() + 120
    written = "killed-*.parts/images-*/0*.safetensors"
    while len(list(tmp_path.glob(written))) < 5 and running.poll() is None:
        assert time.monotonic() < until
        time.sleep(0.002)
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    assert not out.exists()
    (parts,) = tmp_path.glob("killed-*.parts")
    finished = {file: file.stat().st_mtime_ns for file in parts.rglob("0*.safetensors")}
    drawn = len(list(parts.glob("images-*/0*.safetensors")))
    assert 5 <= drawn < 48

    keep_parts(monkeypatch)
    resumed = score(model, out)
    assert {file: file.stat().st_mtime_ns for file in finished} == finished
    monkeypatch.undo()
    whole = score(model, tmp_path / "whole.json")
    assert list(tmp_path.glob("whole-*.parts")) == []
    for part in ("scores", "intervals", "floor", "label_counts"):
        assert resumed[part] == whole[part]


def test_other_settings_take_nothing_of_a_killed_run(model, tmp_path, monkeypatch):
    keep_parts(monkeypatch)
    first = score(model, tmp_path / "a.json")
    other = score(model, tmp_path / "a.json", "--seed", "1")
    assert len(list(tmp_path.glob("a-*.parts/images-*"))) == 2
    assert first["scores"]["fid"] != other["scores"]["fid"]


def test_saved_images_are_those_that_were_scored(model, tmp_path):
    kept = tmp_path / "kept"
    drawn = score(model, tmp_path / "drawn.json", "--save", str(kept))
    files = sorted(kept.rglob("*.png"))
    assert len(files) == 48
    with Image.open(files[0]) as picture:
        assert picture.size == (16, 16)
    read = score(kept, tmp_path / "read.json")
    assert read["scores"]["fid"] == pytest.approx(drawn["scores"]["fid"], rel=1e-5)


def test_images_of_two_evaluations_are_not_mixed(model, tmp_path, capsys):
    kept = tmp_path / "kept"
    argv = ["eval", str(model), *ARGV, "--size", "16x16", "--out", str(tmp_path / "a.json")]
    assert main([*argv, "--save", str(kept)]) == 0
    assert main([*argv, "--save", str(kept)]) == 0  # the same once more
    assert main([*argv, "--save", str(kept), "--seed", "1"]) == 2
    assert f"save: {kept} holds other images; name an empty folder" in capsys.readouterr().err
    assert main(["eval", str(kept), "--save", str(tmp_path / "b")]) == 2
    assert "holds pictures already; leave save out" in capsys.readouterr().err


def test_the_same_evaluation_twice_at_once_is_refused(model, tmp_path, capsys):
    out = tmp_path / "a.json"
    config = EvaluateConfig(source=str(model), size="16x16", num_images=8, device="cpu", out=out)
    with locked(parts_folder(config, "16x16")):
        argv = ["eval", str(model), "--size", "16x16", "--num-images", "8", "--device", "cpu"]
        assert main([*argv, "--out", str(out)]) == 2
        assert "another command is writing to" in capsys.readouterr().err
        assert main([*argv, "--out", str(out), "--seed", "1"]) == 0  # another beside it


def test_a_refused_evaluation_leaves_nothing_behind(model, tmp_path):
    weights = tmp_path / "w.pth"
    weights.write_bytes(b"no weights")
    argv = ["eval", str(model), *ARGV, "--size", "16x16", "--out", str(tmp_path / "a.json")]
    assert main([*argv, "--extractor", "resnet18", "--weights", str(weights)]) == 2
    assert list(tmp_path.iterdir()) == [weights]


def test_random_classes_are_a_function_of_seed_and_number(model, tmp_path):
    found = [
        score(model, tmp_path / f"{k}.json", "--labels", "random", "--seed", seed)
        for k, seed in enumerate(("0", "0", "1"))
    ]
    first, again, other = (one["label_counts"]["images"] for one in found)
    assert first == again != other
    assert "random" in found[0]["labels"]

"""``diffgen status`` on trainings of seconds: finished, running, killed, damaged."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from diffgen.cli import main
from diffgen.commands.run_log import held_by_another, images_per_second, last_lines, trend
from diffgen.commands.status import facts_of
from diffgen.commands.status_lines import duration
from diffgen.files import locked

# diffusers hands a tensor to numpy the old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

ROOT = Path(__file__).parents[2]
TRAIN = ["--config", str(ROOT / "configs/debug.yaml"), "--device", "cpu"]
PLAIN = ["--report.num-images", "0", "--report.sizes", "16x16", "--train.sample-images", "0"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """Eight lines, checkpoints at 192 and 256 of 256 images, and a score."""
    out = tmp_path_factory.mktemp("runs") / "finished"
    few = ["--report.num-images", "16", "--sampling.steps", "1"]
    assert main(["train", *TRAIN, *PLAIN, *few, "--out", str(out)]) == 0
    return out


@pytest.fixture
def copy(finished, tmp_path) -> Path:
    shutil.copytree(finished, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def told(capfd):
    """What ``diffgen status`` says of a run."""

    def command(*argv: object, expect: int = 0) -> str:
        capfd.readouterr()
        assert main(["status", *map(str, argv)]) == expect
        said = capfd.readouterr()
        assert "Traceback" not in said.err
        return said.out if expect == 0 else said.err

    return command


def line(said: str, name: str) -> str:
    """The text behind a name."""
    (found,) = (row for row in said.splitlines() if row.startswith(f"  {name} "))
    return found.removeprefix(f"  {name}").strip()


def test_a_finished_run_is_told_in_lines_and_in_json_alike(finished, told):
    said = told(finished)
    assert said.startswith(f"{finished}: train, finished; no process on this machine holds it\n")
    assert line(said, "images") == "256 of 256 (100.0%)"
    assert line(said, "checkpoints").startswith("2, the newest at 256 images")
    assert line(said, "snapshots") == "4, the newest at 256 images"
    assert line(said, "pipeline") == "exported"
    assert line(said, "evaluation").endswith("16 images against shapes")
    assert "images/s by 1 process" in line(said, "speed")
    assert "  left " not in said
    found = json.loads(told(finished, "--json"))
    last = json.loads((finished / "metrics.jsonl").read_text().splitlines()[-1])
    assert found["last_line"] == last
    assert found["loss"]["last"] == last["loss"]
    (score,) = found["evaluations"]
    saved = json.loads((finished / score["file"]).read_text())
    assert score["fid"] == saved["scores"]["fid"]
    assert (found["schema"], found["kind"]) == ("diffgen-status/1", "train")
    assert (found["state"], found["held"]) == ("finished", False)
    assert found["checkpoints"]["damaged"] == []


def test_it_is_instant_and_loads_no_torch(finished):
    script = (
        "import sys, time; start = time.perf_counter()\n"
        "from diffgen.cli import main\n"
        "assert main(['status', sys.argv[1]]) == 0\n"
        "heavy = {'torch', 'diffusers', 'scipy', 'accelerate'} & set(sys.modules)\n"
        "print(heavy or 'light', time.process_time())"
    )
    command = [sys.executable, "-c", script, str(finished)]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    word, seconds = done.stdout.splitlines()[-1].split()
    assert word == "light"
    assert float(seconds) < 1


def test_a_running_training_is_watched_and_then_killed(tmp_path):
    out = tmp_path / "run"
    more = ["--out", str(out), "--train.images", "2000000", "--train.checkpoint-images", "640"]
    running = subprocess.Popen(
        [sys.executable, str(ROOT / "train/dit.py"), *TRAIN, *PLAIN, *more],
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until = time.monotonic() + 120
        while len(list(out.glob("checkpoints/images-*"))) < 1 or not (out / "pipeline").exists():
            assert running.poll() is None
            assert time.monotonic() < until
            time.sleep(0.05)
        seen = 0
        for _ in range(20):  # while it writes, replaces and removes
            found = facts_of(out)
            assert (found["state"], found["held"]) == ("running", True)
            assert found["images"]["seen"] >= seen
            assert found["checkpoints"]["damaged"] == []
            seen = found["images"]["seen"]
        assert found["seconds_left"] > 1
        assert found["last_line_age"] < 60
        assert running.poll() is None  # asking stopped nothing
    finally:
        os.kill(running.pid, signal.SIGKILL)
        running.wait()
    found = facts_of(out)
    assert (found["state"], found["held"]) == ("stopped", False)
    assert found["images"]["total"] == 2_000_000
    assert 0 < found["images"]["share"] < 1


def test_a_half_written_line_is_passed_over(copy, told):
    log = copy / "metrics.jsonl"
    whole = facts_of(copy)
    with log.open("a") as file:
        file.write('{"images": 288, "loss": 0.')
    assert facts_of(copy)["last_line"] == whole["last_line"]
    log.write_bytes(b"")
    assert facts_of(copy)["loss"] is None
    assert line(told(copy), "images") == "256 of 256 (100.0%)"  # its checkpoint knows


def test_a_stopped_run_is_not_finished(copy):
    shutil.rmtree(copy / "checkpoints/images-000000256")
    lines = (copy / "metrics.jsonl").read_text().splitlines(keepends=True)
    (copy / "metrics.jsonl").write_text("".join(lines[:6]))
    found = facts_of(copy)
    assert (found["state"], found["images"]["seen"]) == ("stopped", 192)
    assert found["seconds_left"] == pytest.approx(64 / found["images_per_second"])


def test_damaged_checkpoints_are_named(copy, told):
    newest = copy / "checkpoints/images-000000256"
    with (newest / "model.safetensors").open("r+b") as file:
        file.truncate(100)
    said = line(told(copy), "damaged")
    assert said.startswith("checkpoints/images-000000256: model.safetensors has 100 bytes instead")
    (newest / "model.safetensors").unlink()
    assert "model.safetensors is missing" in line(told(copy), "damaged")
    newest.rename(newest.with_name("damaged-images-000000256"))
    said = told(copy)
    assert line(said, "damaged") == "checkpoints/damaged-images-000000256: set aside"
    assert line(said, "checkpoints").startswith("1, the newest at 192 images")


def test_milestones_and_validation_are_told(copy, told):
    (copy / "checkpoints/images-000000256/milestone").touch()
    measured = {"images": 192, "loss": 0.25, "bins": [0.1, 0.4], "fid": 12.0}
    (copy / "validation.jsonl").write_text(json.dumps(measured) + "\n")
    said = told(copy)
    assert line(said, "checkpoints") == "2, the newest at 256 images; milestones at 256"
    assert line(said, "validation") == "at 192 images: loss 0.25, fid 12"
    assert facts_of(copy)["validation"] == measured


def test_the_lock_is_seen_and_left_alone(tmp_path):
    assert held_by_another(tmp_path) is False
    assert list(tmp_path.iterdir()) == []
    with locked(tmp_path):
        assert held_by_another(tmp_path) is True
    assert held_by_another(tmp_path) is False
    with locked(tmp_path):  # it was let go
        pass


def test_what_is_no_run_is_refused(tmp_path, told):
    assert f"run: {tmp_path} is no run; give a folder that" in told(tmp_path, expect=2)
    assert f"run: {tmp_path}/gone does not exist" in told(tmp_path / "gone", expect=2)
    (tmp_path / "config.yaml").write_text("a: 1\n")
    assert "is no run" in told(tmp_path, expect=2)
    assert "is a file" in told(tmp_path / "config.yaml", expect=2)
    (tmp_path / "config.yaml").write_text("a: [")
    assert "is not valid YAML" in told(tmp_path, expect=2)


@pytest.mark.parametrize(("section", "kind"), [("condition", "lacon"), ("pair", "joint")])
def test_what_is_trained_beside_a_model_is_told_by_its_kind(copy, told, section, kind):
    config = copy / "config.yaml"
    config.write_text(f"{section}: edge\n{config.read_text()}")
    assert told(copy).startswith(f"{copy}: {kind}, finished")


def test_a_distillation_is_told_by_its_stage(finished, tmp_path, told):
    run = tmp_path / "student"
    run.mkdir()
    loop = "train: {images: 512, batch_size: 32}"
    (run / "config.yaml").write_text(f"pairs: {{}}\nregression: {{{loop}}}\n{loop}\n")
    assert told(run).startswith(f"{run}: nitro, stage pairs, not begun")
    shutil.copytree(finished, run / "regression", ignore=shutil.ignore_patterns("pipeline"))
    said = told(run)
    assert said.startswith(f"{run}: nitro, stage regression, stopped")
    assert line(said, "images") == "256 of 512 (50.0%)"
    shutil.copytree(finished / "checkpoints", run / "checkpoints")
    shutil.copy(finished / "metrics.jsonl", run)
    assert told(run).startswith(f"{run}: nitro, stage adversarial, stopped")


def test_prepared_latents_are_counted(vae_folder, tmp_path, told):
    out = tmp_path / "latents"
    images = ["--data.size", "8x8", "--data.subset", ":7", "--shard-images", "4"]
    argv = ["prepare", "--out", str(out), "--vae.path", str(vae_folder), *images]
    assert main([*argv, "--device", "cpu"]) == 0
    said = told(out)
    assert said.startswith(f"{out}: prepare, finished")
    assert line(said, "images") == "7 of 7 encoded, in 2 files"
    shard = next(out.glob("*/shard-00001.safetensors"))
    shard.write_bytes(shard.read_bytes()[:-1])
    assert line(told(out), "damaged").startswith(f"{shard.relative_to(out)}: missing or cut short")
    (out / "index.json").unlink()  # as a kill leaves it
    next(out.glob("*/shard-00001.json")).unlink()
    said = told(out)
    assert said.startswith(f"{out}: prepare, stopped")
    assert line(said, "images") == "4 of 7 encoded, in 1 file"


def test_a_slope_is_no_scatter():
    falling = trend([0.7 * 0.8**n for n in range(8)])
    assert falling["trend"] == "falling"
    assert trend([0.5, 0.3, 0.6, 0.2, 0.5, 0.4, 0.6, 0.3])["trend"] == "level"


def test_the_trend_of_a_loss_needs_more_than_its_scatter():
    assert trend([]) is None
    assert trend([1.0] * 5)["trend"] is None
    assert trend([2.0, 2.1, 1.9, 1.0, 1.1, 0.9])["trend"] == "falling"
    assert trend([1.0, 1.1, 0.9, 2.0, 2.1, 1.9])["trend"] == "rising"
    assert trend([1.0, 1.2, 0.8, 1.1, 0.9, 0.95])["trend"] == "level"
    falling = trend([float(k) for k in range(100, 0, -1)])
    assert (falling["recent"], falling["before"]) == (5.5, 15.5)


def test_the_speed_is_that_of_the_time_it_took():
    """100 images at 50 and 100 at 200 a second take 2.5 seconds."""
    lines = [{"images_per_second": 50.0}, {"images_per_second": 200.0}]
    assert images_per_second(lines) == pytest.approx(200 / 2.5)
    assert images_per_second([]) is None


def test_of_a_long_log_only_the_end_is_read(tmp_path):
    log = tmp_path / "metrics.jsonl"
    log.write_text("".join(json.dumps({"images": k}) + "\n" for k in range(50_000)))
    found = last_lines(log)
    assert found[-1] == {"images": 49_999}
    assert 1_000 < len(found) < 49_000
    assert [line["images"] for line in found] == list(range(50_000 - len(found), 50_000))


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(12, "12 s"), (90, "1 min 30 s"), (7500, "2 h 5 min"), (273600, "3 d 4 h")],
)
def test_durations_are_told_in_two_units(seconds, words):
    assert duration(seconds) == words

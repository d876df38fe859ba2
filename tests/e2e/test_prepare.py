"""``prepare`` as a user runs it: scripts in processes of their own, killed, stopped and shared."""

import json
import signal
from pathlib import Path

import pytest

from diffgen.group import GONE
from tests.e2e.faults import OUT, TRAIN, Undisturbed, newest
from tests.e2e.forked import ROOT, Running
from tests.prepared import MIXED_SIZES, content, pictures

DEBUG = ("--config", str(ROOT / "configs/debug.yaml"), "--model.patch-size", "2")
FILES = 12


def started(out: str, folder: Path, vae: Path, *more: str, world: int = 1) -> Running:
    """192 scenes in files of 16."""
    data = ("--data.size", "16x16", "--data.subset", f":{16 * FILES}", "--shard-images", "16")
    argv = ("--vae.path", str(vae), *(more or data), "--device", "cpu", "--out", out)
    return Running("train/prepare.py", *argv, folder=folder, world=world)


def finished(out: str, folder: Path, vae: Path, *more: str, world: int = 1) -> Path:
    run = started(out, folder, vae, *more, world=world)
    assert run.codes == [0] * world, run.said
    return folder / out


def notes(out: Path) -> list[Path]:
    """Of finished files."""
    return list(out.glob("8x8/shard-*.json"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory, vae_folder):
    """In one process, undisturbed."""
    return finished("whole", tmp_path_factory.mktemp("prepared"), vae_folder)


def test_prepared_then_trained_on(whole, tmp_path):
    data = ("--data.kind", "latents", "--data.path", str(whole))
    run = Running("train/dit.py", *DEBUG, *data, "--out", "run", folder=tmp_path)
    assert run.codes == [0], run.said
    lines = (tmp_path / "run/metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["images"] for line in lines] == list(range(32, 257, 32))
    assert (tmp_path / "run/pipeline/vae/config.json").exists()
    assert "Traceback" not in run.said[0]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_stopped_in_the_middle_it_goes_on_to_the_same_bytes(whole, tmp_path, vae_folder, number):
    run, out = started("out", tmp_path, vae_folder), tmp_path / "out"
    run.until(lambda: len(notes(out)) >= 3)
    run.signal(number)
    code = run.codes[0]
    assert 3 <= len(notes(out)) < FILES
    if number == signal.SIGTERM:
        assert code == 143
        told = f"{len(notes(out))} of {FILES} files are in out, the same command goes on"
        assert run.said[0].endswith(f"train/prepare.py: stopped by SIGTERM; {told}")
    before = {path: path.stat().st_mtime_ns for path in notes(out)}
    finished("out", tmp_path, vae_folder)
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    assert content(out) == content(whole)


@pytest.mark.parametrize("crop", ["center", "none"])
def test_two_processes_give_the_bytes_of_one(whole, tmp_path, vae_folder, crop):
    more: tuple[str, ...] = ()
    if crop == "none":
        folder = pictures(tmp_path / "pictures", MIXED_SIZES)
        more = ("--data.kind", "folder", "--data.path", str(folder), "--data.crop", "none")
        more += ("--data.size", "24x24", "--shard-images", "2")
        whole = finished("one", tmp_path, vae_folder, *more)
    two = finished("two", tmp_path, vae_folder, *more, world=2)
    assert content(two) == content(whole)


def test_two_processes_of_which_one_is_killed_end_and_go_on(whole, tmp_path, vae_folder):
    run, out = started("out", tmp_path, vae_folder, world=2), tmp_path / "out"
    run.until(lambda: len(notes(out)) >= 2)
    run.signal(signal.SIGKILL, rank=1)
    codes = run.codes
    assert codes[1] == -signal.SIGKILL
    assert codes[0] == 2
    assert run.said[0].endswith(f": {GONE}")
    assert not (out / "index.json").exists()
    finished("out", tmp_path, vae_folder, world=2)
    assert content(out) == content(whole)


def test_latents_cut_short_under_a_training_are_mended_and_it_ends_as_if_undisturbed(
    tmp_path, vae_folder
):
    latents = finished("latents", tmp_path, vae_folder)
    data = ("--data.kind", "latents", "--data.path", str(latents), "--model.patch-size", "2")
    undisturbed, stopped = tmp_path / "undisturbed", tmp_path / "stopped"
    undisturbed.mkdir()
    stopped.mkdir()
    whole = Undisturbed.run((*TRAIN, *data, "--report.num-images", "0", "--out", OUT), undisturbed)
    run = whole.started(stopped)
    run.until(lambda: newest(stopped))
    run.signal(signal.SIGTERM)
    assert run.codes == [143]
    assert 0 < newest(stopped) < 768
    shard = latents / "8x8/shard-00005.safetensors"
    shard.write_bytes(shard.read_bytes()[:-100])
    run = whole.started(stopped)
    assert run.codes == [2]
    assert f"data.path: {shard} is damaged (" in run.said[0]
    assert "run the same diffgen prepare command again, it mends the folder" in run.said[0]
    finished("latents", tmp_path, vae_folder)
    assert f"resuming {OUT} at " in whole.assert_again(stopped)

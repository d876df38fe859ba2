"""Several processes, signals and kills: real processes of the scripts, over gloo."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from diffgen.files import locked
from tests.e2e.forked import ROOT, Running
from tests.logs import curve

TINY = [
    *("--config", str(ROOT / "configs/debug.yaml"), "--optimizer.kind", "adamw"),
    *("--train.images", "400", "--train.batch-size", "8", "--train.sample-images", "0"),
    *("--train.log-images", "24", "--train.checkpoint-images", "160"),
    *("--report.num-images", "0", "--report.sizes", "16x16", "--sampling.steps", "1"),
]


def started(out: str, folder: Path, *more: str, world: int = 1) -> Running:
    """The training of 50 steps into ``folder/out``."""
    return Running("train/dit.py", *TINY, *more, "--out", out, folder=folder, world=world)


def trained(out: str, folder: Path, *more: str, world: int = 1) -> Path:
    run = started(out, folder, *more, world=world)
    assert run.codes == [0] * world, run.said
    return folder / out


def tensors(run: Path) -> dict[str, torch.Tensor]:
    """Weights and averages of the last checkpoint."""
    files = (run / "checkpoints/images-000000400").glob("*.safetensors")
    return {f"{file.stem}/{k}": v for file in files for k, v in load_file(file).items()}


def apart(one: Path, other: Path) -> float:
    """Largest difference of any weight, or average of it."""
    mine, theirs = tensors(one), tensors(other)
    assert mine.keys() == theirs.keys()
    assert len(mine) > 50
    return max((mine[name] - theirs[name]).abs().max().item() for name in mine)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The uninterrupted training in one process."""
    return trained("whole", tmp_path_factory.mktemp("runs"))


MUON = ("--optimizer.kind", "muon", "--optimizer.muon-lr", "0.001", "--optimizer.lr", "0.001")


SLOW = pytest.mark.slow
PIECES = ("--train.accumulation", "2")


@pytest.mark.parametrize(
    ("more", "pieces", "world"),
    [((), PIECES, 2), pytest.param((), (), 4, marks=SLOW), pytest.param(MUON, (), 2, marks=SLOW)],
    ids=["adamw", "four", "muon"],
)
def test_several_processes_reach_the_weights_of_one(whole, tmp_path, more, pieces, world):
    """After 50 steps on the same global batches, one of the cases with accumulation."""
    one = trained("one", tmp_path, *more) if more else whole
    several = trained("several", tmp_path, *more, *pieces, world=world)
    assert {line["processes"] for line in curve(several)} == {world}
    assert {line["processes"] for line in curve(one)} == {1}
    assert apart(one, several) < 1e-5
    for a, b in zip(curve(one), curve(several), strict=True):
        assert a["images"] == b["images"]
        assert a["loss"] == pytest.approx(b["loss"], abs=1e-5)
        assert a["grad_norm"] == pytest.approx(b["grad_norm"], rel=1e-4)


@pytest.mark.slow
def test_two_processes_reach_the_weights_of_one_on_mixed_sizes_and_drawn_positions(tmp_path):
    """Packed, in pieces of a token budget, whose number differs between the processes."""
    sizes = ("--data.crop", "none", "--data.size", "32x32", "--train.token-budget", "70")
    told = ("--model.position.kind", "rpe2d", "--model.micro", "canvas")
    one = trained("one", tmp_path, *sizes, *told)
    two = trained("two", tmp_path, *sizes, *told, world=2)
    assert {line["processes"] for line in curve(two)} == {2}
    assert apart(one, two) < 1e-5


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_and_the_same_command_goes_on_bit_for_bit(whole, tmp_path, number, code):
    run = started("run", tmp_path)
    run.until((tmp_path / "run/metrics.jsonl").exists)
    run.signal(number)
    assert run.codes == [code]
    checkpoints = sorted((tmp_path / "run/checkpoints").iterdir())
    seen = int(checkpoints[-1].name.removeprefix("images-"))
    assert 24 <= seen < 400, "too late to show anything"
    assert run.said == [
        f"train/dit.py: stopped by {number.name}; saved run/checkpoints/images-{seen:09d} "
        f"at {seen:,} images, the same command goes on from it"
    ]
    out = trained("run", tmp_path)
    assert curve(out) == curve(whole)
    assert apart(out, whole) == 0
    one, other = (sorted(p.name for p in (r / "snapshots").iterdir()) for r in (out, whole))
    assert one == other  # an average rebuilt from them is the same too


def test_all_processes_stop_for_a_signal_to_one_and_fewer_go_on(whole, tmp_path):
    run = started("run", tmp_path, world=2)
    run.until((tmp_path / "run/metrics.jsonl").exists)
    run.signal(signal.SIGTERM, rank=1)
    assert run.codes == [143, 143]
    assert run.said[0].count("stopped by SIGTERM; saved run/checkpoints/images-") == 1
    assert run.said[1] == ""
    assert not (tmp_path / "run/checkpoints/images-000000400").exists()
    trained("run", tmp_path)
    assert {line["processes"] for line in curve(tmp_path / "run")} == {1, 2}
    assert apart(tmp_path / "run", whole) < 1e-5


def test_a_second_signal_stops_at_once(tmp_path):
    """While a preview of a million steps is drawn, the first one waits for its end."""
    endless = ("--train.sample-images", "8", "--sampling.steps", "1000000")
    run = started("run", tmp_path, *endless, "--train.log-images", "8")
    run.until((tmp_path / "run/metrics.jsonl").exists)  # the line before the preview
    run.signal(signal.SIGTERM)
    run.processes[0].join(0.5)
    assert run.running
    run.signal(signal.SIGTERM)
    assert run.codes == [-signal.SIGTERM]


def photographs(folder: Path) -> Path:
    folder.mkdir()
    for i in range(16):
        pixels = np.random.default_rng(i).integers(0, 256, (16, 16, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    return folder


def test_what_goes_wrong_in_one_process_ends_all_with_one_message(tmp_path):
    """A file that is damaged under way is met by the one process it is dealt to."""
    data = photographs(tmp_path / "data")
    folder = ("--data.kind", "folder", "--data.path", str(data), "--train.images", "40000")
    run = started("run", tmp_path, *folder, world=2)
    run.until((tmp_path / "run/metrics.jsonl").exists)
    (data / "7.png").write_bytes(b"damaged")
    assert run.codes == [2, 2]
    assert run.said[0].startswith(f"train/dit.py: {data / '7.png'} is not a readable image")
    assert run.said[1] == ""


def test_a_bad_loss_and_a_locked_folder_end_all_processes(tmp_path):
    bad = started("bad", tmp_path, "--optimizer.lr", "1e30", world=2)
    first = started("first", tmp_path, "--train.images", "400000")
    first.until((tmp_path / "first/metrics.jsonl").exists)
    second = started("first", tmp_path, "--train.images", "400000", world=2)
    assert bad.codes == second.codes == [2, 2]
    first.signal(signal.SIGKILL)
    assert bad.said[0].count("NaN or infinite") == 1
    assert second.said[0] == "train/dit.py: out: another command is writing to first"
    assert bad.said[1] == second.said[1] == ""


BLOCK = """
import os
from diffgen.errors import UserError
from diffgen.group import Group

group = Group.join(cpu=True)
assert (group.world, group.largest(group.rank + 3)) == (2, 4)
assert group.everyones(f"of {{group.rank}}") == ["of 0", "of 1"]
with group.together():
    if group.rank == 1:
        {wrong}
print("left together")
"""


@pytest.mark.parametrize(
    ("wrong", "codes", "said"),
    [
        ("pass", [0, 0], ["left together", "left together"]),
        ("raise RuntimeError('a bug')", [1, 1], ["", "RuntimeError: a bug"]),
        ("raise UserError('a mistake')", [1, 1], ["SharedError: a mistake"] * 2),
        ("os._exit(7)", [1, 7], ["goes on from what is kept", ""]),
    ],
    ids=["well", "bug", "mistake", "lost"],
)
def test_a_block_is_left_together(tmp_path, wrong, codes, said):
    """No process waits for one that failed, and only that one reports a failure of its own."""
    script = tmp_path / "block.py"
    script.write_text(BLOCK.format(wrong=wrong))
    run = Running(str(script), folder=tmp_path, world=2)
    assert run.codes == codes, run.said
    for expected, text in zip(said, run.said, strict=True):
        last = text.splitlines()[-1] if text else ""
        assert last.endswith(expected)
        assert bool(last) == bool(expected)


DRAW = ("--size", "16x16", "--size", "24x16", "--num-images", "10", "--batch-size", "4")


def drawn(out: str, whole: Path, folder: Path, *more: str, world: int = 1) -> Running:
    argv = (str(whole), *DRAW, "--steps", "3", "--out", out, *more)
    return Running("sample/generate.py", *argv, folder=folder, world=world)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file but settings.json and the lock."""
    passed_over = ("settings.json", ".lock")
    files = [p for p in folder.rglob("*") if p.is_file() and p.name not in passed_over]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def pictures(whole):
    """What one process draws."""
    run = drawn("pictures", whole, whole.parent)
    assert run.codes == [0], run.said
    return whole.parent / "pictures"


def test_processes_deal_the_pictures_out_and_draw_the_same_bits(whole, pictures, tmp_path):
    run = drawn("two", whole, tmp_path, world=2)
    assert run.codes == [0, 0], run.said
    found = contents(tmp_path / "two")
    assert len(found) == 2 * 10 + 2
    assert found == contents(pictures)
    notes = [json.loads((p / "settings.json").read_text()) for p in (tmp_path / "two", pictures)]
    assert notes[0]["images"] == notes[1]["images"]
    assert sorted(found) == sorted(
        [note["file"] for note in notes[0]["images"]] + ["sheet-16x16.png", "sheet-24x16.png"]
    )
    assert run.said == ["20 images and 2 contact sheets in two", ""]


def test_processes_share_the_cells_of_a_sweep(whole, tmp_path):
    swept = {}
    for name, world in (("one", 1), ("two", 2)):
        argv = ["--kinds", "apg", "--scales", "1,4", "--num-images", "10", "--steps", "2"]
        more = ["--batch-size", "4", "--device", "cpu", "--out", name]
        run = Running(
            "eval/guidance_sweep.py", str(whole), *argv, *more, folder=tmp_path, world=world
        )
        assert run.codes == [0] * world, run.said
        cell = json.loads((tmp_path / name / "cells/apg-4-seed0.json").read_text())
        assert cell["processes"] == world
        swept[name] = json.loads((tmp_path / name / "sweep.json").read_text())
    assert swept["one"]["cells"] == swept["two"]["cells"]
    assert swept["one"]["real"] == swept["two"]["real"]


LONG = ("--steps", "60")


@pytest.fixture(scope="module")
def slowly(whole):
    """What one process draws in long walks, which leave time for a signal."""
    run = drawn("slowly", whole, whole.parent, *LONG)
    assert run.codes == [0], run.said
    return whole.parent / "slowly"


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGKILL, -9), (signal.SIGINT, 130), (signal.SIGTERM, 143)]
)
def test_a_sampling_that_was_stopped_goes_on(whole, slowly, tmp_path, number, code):
    out = tmp_path / "run"
    run = drawn("run", whole, tmp_path, *LONG)
    run.until(lambda: len(list(out.glob("*/[!.]*.png"))) >= 4)
    run.signal(number)
    assert run.codes == [code]
    there = {path: path.stat().st_mtime_ns for path in out.glob("*/[!.]*.png")}
    assert len(there) < 20, "too late to show anything"
    assert not (out / "settings.json").exists()
    if number != signal.SIGKILL:
        assert run.said == [
            f"sample/generate.py: stopped by {number.name}; {len(there)} of 20 images are in run, "
            "the same command goes on"
        ]
        assert not list(out.glob("*/.*"))  # nothing half-written
    run = drawn("run", whole, tmp_path, *LONG)
    assert run.codes == [0], run.said
    first = [path for path in there if int(path.stem[-5:]) < 4 and path.parent.name == "16x16"]
    assert len(first) == 4
    assert all(path.stat().st_mtime_ns == there[path] for path in first)  # not drawn again
    assert contents(out) == contents(slowly)
    assert not (out / ".unfinished.json").exists()


def test_two_samplings_do_not_share_a_folder(whole, tmp_path):
    with locked(tmp_path / "run"):
        run = drawn("run", whole, tmp_path, world=2)
        assert run.codes == [2, 2]
    assert run.said == ["sample/generate.py: out: another command is writing to run", ""]


def test_a_damaged_vae_ends_all_processes_with_one_message(make_vae, tmp_path):
    vae = make_vae()
    weights = vae / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    run = started("run", tmp_path, "--vae.path", str(vae), "--model.patch-size", "2", world=2)
    assert run.codes == [2, 2]
    assert f"vae.path: {vae} cannot be loaded" in run.said[0]
    assert "Traceback" not in run.said[0]
    assert run.said[1] == ""


@pytest.mark.slow
def test_torchrun_itself(whole, tmp_path):
    """The launcher of the documentation: the same weights, and one message before its own."""

    def torchrun(*argv: str) -> subprocess.CompletedProcess:
        launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]
        launcher += ["--standalone", str(ROOT / "train/dit.py"), *TINY, *argv]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
        environment["PYTHONPATH"] = str(ROOT)
        return subprocess.run(
            launcher, cwd=tmp_path, capture_output=True, text=True, env=environment, timeout=300
        )

    done = torchrun("--out", "two")
    assert done.returncode == 0, done.stderr[-3000:]
    assert {line["processes"] for line in curve(tmp_path / "two")} == {2}
    assert apart(tmp_path / "two", whole) < 1e-5
    refused = torchrun("--train.batch-size", "7", "--out", "odd")
    assert refused.returncode != 0
    assert refused.stderr.count("7 images cannot be shared by 2 processes") == 1
    unknown = torchrun("--train.bach-size", "8", "--out", "odd")
    assert unknown.stderr.count("did you mean train.batch_size?") == 1

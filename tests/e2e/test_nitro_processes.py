"""``train/nitro.py`` in two processes: one pool of heads, and nearly the student of one process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.e2e.forked import ROOT, Running
from tests.lacon_runs import tiny_run
from tests.logs import curve
from tests.nitro.runs import QUICK, newest, scores

SCRIPT = """
import os, sys, torch
from diffgen.cli import launch
from diffgen.nitro.objective import Adversarial

step = Adversarial.step

def noting(self, reduce):
    step(self, reduce)
    torch.save(self.pool.state_dict(), f"heads-{os.environ.get('RANK', '0')}.pt")

Adversarial.step = noting
sys.exit(launch("nitro", sys.argv[1:], "train/nitro.py"))
"""
"""The command itself, whose processes write their heads down after each step."""

MOMENTS = ("first_", "second_")


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("work")
    tiny_run(folder / "tiny", prediction="x0")
    (folder / "nitro.py").write_text(SCRIPT)
    return folder


def distilled(work: Path, out: str, world: int, *more: str) -> Path:
    argv = ["tiny", *QUICK, *more, "--out", out]
    run = Running(str(work / "nitro.py"), *argv, folder=work, world=world)
    assert run.codes == [0] * world, run.said
    assert run.said[1:] == [""] * (world - 1)
    return work / out


def apart(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    assert one.keys() == other.keys()
    return max((one[name].double() - other[name]).abs().max().item() for name in one)


def parameters(heads: dict[str, torch.Tensor]) -> torch.Tensor:
    """All numbers of all heads, without their moments."""
    counted = ("ages", "steps")
    own = [name for name in heads if name not in counted and not name.startswith(MOMENTS)]
    return torch.cat([heads[name].flatten() for name in sorted(own)])


@pytest.mark.slow
def test_two_processes_train_one_pool_and_nearly_the_student_of_one(work):
    """After 4 and 6 steps, those of one process and of two with accumulation.

    Adam's first step has the rate's size even where a gradient is rounding alone, so a few numbers
    of the heads may part by 2 rates a step; 98 of 100 agree to a hundredth of one.
    """
    one = distilled(work, "one", 1)
    two = distilled(work, "two", 2, "--train.accumulation", "2")
    for stage in ("", "regression"):
        assert {line["processes"] for line in curve(one / stage)} == {1}
        assert {line["processes"] for line in curve(two / stage)} == {2}
    mine, theirs = (torch.load(work / f"heads-{rank}.pt", weights_only=True) for rank in (0, 1))
    assert apart(mine, theirs) == 0
    assert apart(mine, load_file(newest(two) / "heads.safetensors")) == 0
    alone = load_file(newest(one) / "heads.safetensors")
    for name in ("ages", "steps"):
        assert torch.equal(mine[name], alone[name])
    gaps = (parameters(mine) - parameters(alone)).abs()
    assert gaps.max() < 6 * 5e-3
    assert (gaps > 5e-5).double().mean() < 0.02
    first, other = (load_file(newest(run) / "model.safetensors") for run in (one, two))
    assert apart(first, other) < 1e-3
    weights = "regression/pipeline/transformer/diffusion_pytorch_model.safetensors"
    assert apart(load_file(one / weights), load_file(two / weights)) < 1e-4
    assert apart(load_file(one / weights), first) > 3e-3  # how far the second stage went
    for a, b in zip(scores(one), scores(two), strict=True):
        assert (a["images"], a["head_age"]) == (b["images"], b["head_age"])
        assert a["fid_to_teacher"] == pytest.approx(b["fid_to_teacher"], rel=0.02)


@pytest.mark.slow
def test_torchrun_itself(work):
    """The launcher of the documentation reaches the heads of two processes without it."""
    two = distilled(work, "again", 2)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]
    argv = [*launcher, "--standalone", str(ROOT / "train/nitro.py"), "tiny", *QUICK, "--out", "run"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    environment["PYTHONPATH"] = str(ROOT)
    done = subprocess.run(
        argv, cwd=work, capture_output=True, text=True, env=environment, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert {line["processes"] for line in curve(work / "run")} == {2}
    files = [newest(run) / "heads.safetensors" for run in (two, work / "run")]
    assert apart(*map(load_file, files)) == 0

"""A model of which each process holds a share: its numbers, its checkpoints, its failures."""

import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.e2e.forked import ROOT, Running

LOOP = [
    *("--config", str(ROOT / "configs/debug.yaml"), "--optimizer.kind", "adamw"),
    *("--optimizer.lr", "0.001", "--model.depth", "2", "--schedule.warmup-images", "0"),
    *("--schedule.decay", "constant"),
    *("--train.batch-size", "8", "--train.log-images", "8", "--train.checkpoint-images", "80"),
    *("--train.sample-images", "80", "--sampling.steps", "1"),
    *("--report.num-images", "0", "--report.sizes", "16x16"),
]

WITNESSED = """
import sys
import torch.distributed as dist
from torch.distributed.tensor import DTensor
from diffgen.cli import launch
from diffgen.training.loop import Loop

run = Loop.run

def watched(self):
    parameters = list(self.model.parameters())
    assert self.group.world == dist.get_world_size() == 2
    assert all(isinstance(p, DTensor) for p in parameters)
    assert all(isinstance(w, DTensor) for a in self.state.ema.averages for w in a.weights.values())
    held = sum(p.to_local().numel() for p in parameters)
    assert held < 0.6 * sum(p.numel() for p in parameters)
    before = self.state.seen
    run(self)
    moments = self.state.optimizers[0].state[parameters[0]]["exp_avg"]
    assert isinstance(moments, DTensor)
    print(f"sharded from {before} to {self.state.seen}")

Loop.run = watched
sys.exit(launch("train", sys.argv[1:], "train"))
"""


def trained(script: str, out: str, folder: Path, *more: str, world: int = 1) -> Path:
    run = Running(script, *LOOP, *more, "--out", out, folder=folder, world=world)
    assert run.codes == [0] * world, run.said
    return folder / out


def sharded(out: str, folder: Path, *more: str) -> Path:
    """In two processes, which make sure that each holds a share."""
    script = folder / "witnessed.py"
    script.write_text(WITNESSED)
    run = Running(
        str(script), *LOOP, "--train.sharding", "full", *more, "--out", out, folder=folder, world=2
    )
    assert run.codes == [0, 0], run.said
    assert all("sharded from" in said for said in run.said)
    return folder / out


def exported(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "pipeline/transformer/diffusion_pytorch_model.safetensors")


def apart(one: Path, other: Path) -> float:
    mine, theirs = exported(one), exported(other)
    assert mine.keys() == theirs.keys()
    assert len(mine) > 20
    return max((mine[name] - theirs[name]).abs().max().item() for name in mine)


@pytest.mark.slow
def test_shares_train_as_a_whole_does_and_go_on_in_one_process(tmp_path):
    """20 steps of AdamW; the second half of the last run is one process's."""
    length = ("--train.images", "160")
    plain = trained("train/dit.py", "plain", tmp_path, *length, world=2)
    split = sharded("split", tmp_path, *length)
    assert apart(plain, split) < 1e-4
    assert (split / "samples/images-000000080.png").is_file()
    assert (split / "snapshots/000000160.safetensors").is_file()
    names = {path.name for path in (split / "checkpoints/images-000000160").iterdir()}
    assert names == {"shards", "state.json", "manifest.json"}

    sharded("moved", tmp_path, "--train.images", "80")
    options = ("--train.sharding", "full", *length)
    moved = trained("train/dit.py", "moved", tmp_path, *options)
    assert apart(moved, plain) < 1e-4
    longer = ("--train.images", "240")
    sharded("moved", tmp_path, *longer)  # and again in two
    assert apart(moved, trained("train/dit.py", "plain", tmp_path, *longer)) < 1e-4


@pytest.mark.slow
def test_a_sharded_run_that_was_killed_ends_as_one_that_was_not(tmp_path):
    length = ("--train.images", "800")
    whole = sharded("whole", tmp_path, *length)
    options = ("--train.sharding", "full", *length, "--out", "killed")
    run = Running("train/dit.py", *LOOP, *options, folder=tmp_path, world=2)
    run.until((tmp_path / "killed/checkpoints/images-000000080").exists)
    run.signal(signal.SIGKILL)
    assert run.codes == [-signal.SIGKILL] * 2
    killed = sharded("killed", tmp_path, *length)
    assert apart(killed, whole) == 0
    assert not list((killed / "checkpoints").glob(".*"))


@pytest.mark.slow
def test_a_damaged_share_is_set_aside_and_the_checkpoint_before_it_used(tmp_path):
    options = ("--train.sharding", "full")
    whole = trained("train/dit.py", "whole", tmp_path, *options, "--train.images", "240")
    trained("train/dit.py", "hurt", tmp_path, *options, "--train.images", "160")
    share = next((tmp_path / "hurt/checkpoints/images-000000160/shards").glob("*.distcp"))
    share.write_bytes(share.read_bytes()[:-100])
    longer = ("--train.images", "240", "--out", "hurt")
    run = Running("train/dit.py", *LOOP, *options, *longer, folder=tmp_path)
    assert run.codes == [0]
    assert f"shards/{share.name} has" in run.said[0]
    assert (tmp_path / "hurt/checkpoints/damaged-images-000000160").is_dir()
    assert apart(tmp_path / "hurt", whole) == 0


FAILING = """
import sys
from diffgen.cli import launch
import diffgen.training.checkpoint as checkpoint

whole = checkpoint.{name}

def failing(*given):
    import torch.distributed as dist
    if dist.get_rank() == 1:
        raise OSError(5, "a broken disk")
    return whole(*given)

checkpoint.{name} = failing
sys.exit(launch("train", sys.argv[1:], "train"))
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tensors_of", "put_tensors"])
def test_what_fails_in_one_process_alone_ends_both(tmp_path, name):
    """Before a share is written, and after one was read: nobody waits for the other."""
    options = ("--train.sharding", "full", "--train.images", "80", "--out", "run")
    if name == "put_tensors":
        trained("train/dit.py", "run", tmp_path, *options[:4], world=2)
        options = (*options[:3], "160", *options[4:])
    script = tmp_path / "failing.py"
    script.write_text(FAILING.format(name=name))
    run = Running(str(script), *LOOP, *options, folder=tmp_path, world=2)
    assert all(code not in (0, None) for code in run.codes)
    assert "a broken disk" in run.said[0] + run.said[1]
    assert not list((tmp_path / "run/checkpoints").glob(".*"))


@pytest.mark.slow
def test_a_disk_that_is_full_ends_both_processes_and_keeps_the_checkpoint_before(tmp_path):
    options = ("--train.sharding", "full", "--out", "run")
    trained("train/dit.py", "run", tmp_path, *options[:2], "--train.images", "80", world=2)
    script = tmp_path / "limited.py"
    script.write_text(
        "import resource, sys\nfrom diffgen.cli import launch\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        'sys.exit(launch("train", sys.argv[1:], "train"))\n'
    )
    longer = ("--train.images", "160")
    run = Running(str(script), *LOOP, *options, *longer, folder=tmp_path, world=2)
    assert run.codes == [2, 2]
    assert "cannot be written" in run.said[0]
    assert run.said[1] == ""
    names = {path.name for path in (tmp_path / "run/checkpoints").iterdir()}
    assert names == {"images-000000080"}
    whole = trained("train/dit.py", "whole", tmp_path, *longer, *options[:2], world=2)
    assert (
        apart(trained("train/dit.py", "run", tmp_path, *longer, *options[:2], world=2), whole) == 0
    )


def test_what_sharding_cannot_do_is_refused(tmp_path):
    options = ("--train.sharding", "full", "--optimizer.kind", "muon", "--out", "run")
    run = Running("train/dit.py", *LOOP, *options, folder=tmp_path)
    assert run.codes == [2]
    assert "train.sharding: full splits the matrices that Muon needs whole" in run.said[0]
    assert not (tmp_path / "run").exists()

"""A process beside the main one that dies: nobody waits for it, and nothing is lost."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from diffgen.data.loader import load_batches
from diffgen.data.order import BatchNumbers, TrainingData
from diffgen.data.shapes import Shapes
from diffgen.errors import UserError
from diffgen.group import GONE
from tests.e2e.faults import OUT, TRAIN, Undisturbed, assert_same, children, newest
from tests.e2e.forked import ROOT, Running

SOON = 20
"""Seconds; where a process waits for one that is dead it does so for twelve hours."""


@pytest.fixture(scope="module")
def with_a_worker(tmp_path_factory) -> Undisturbed:
    command = (*TRAIN, "--train.workers", "1", "--out", OUT)
    return Undisturbed.run(command, tmp_path_factory.mktemp("worker"))


def until_saved(running: Running, folder: Path) -> None:
    """The first of six checkpoints is there."""
    running.until((folder / OUT / "checkpoints/images-000000128").exists)


def test_a_worker_that_is_killed(with_a_worker, tmp_path):
    running = with_a_worker.started(tmp_path)
    until_saved(running, tmp_path)
    (worker,) = children(running.processes[0].pid)
    os.kill(worker, signal.SIGKILL)
    assert running.codes == [2]
    (told,) = running.said[0].splitlines()
    assert told.startswith(f"diffgen train: train.workers: process {worker}, which reads the data")
    assert "SIGKILL: the system may have run out of memory" in told
    assert "fewer workers or a smaller train.batch_size need less" in told
    assert told.endswith("; the same command goes on from the last checkpoint")
    saved = newest(tmp_path)
    assert 128 <= saved < 768
    assert f"resuming {OUT} at {saved} images" in with_a_worker.assert_again(tmp_path)


def test_workers_that_outlive_their_killed_training_do_not_keep_its_folder(with_a_worker, tmp_path):
    running = with_a_worker.started(tmp_path)
    until_saved(running, tmp_path)
    (worker,) = children(running.processes[0].pid)
    os.kill(worker, signal.SIGSTOP)  # it cannot notice
    try:
        running.signal(signal.SIGKILL)
        assert running.codes == [-9]
        with_a_worker.assert_again(tmp_path)
    finally:
        os.kill(worker, signal.SIGKILL)


def test_a_death_is_told_only_where_a_batch_is_waited_for():
    """Elsewhere it would come in the middle of a step, or of a checkpoint."""
    before = signal.getsignal(signal.SIGCHLD)
    data = TrainingData(Shapes(16, 16, "train"), seed=0)
    batches = load_batches(data, BatchNumbers(0, 64, 8), workers=1, pin_memory=False)
    next(batches)
    assert signal.getsignal(signal.SIGCHLD) == before
    (worker,) = multiprocessing.active_children()
    worker.kill()
    worker.join()
    with pytest.raises(UserError, match=rf"process {worker.pid}, which reads the data, was ended"):
        list(batches)
    assert signal.getsignal(signal.SIGCHLD) == before


@pytest.fixture(scope="module")
def of_two(tmp_path_factory) -> Undisturbed:
    return Undisturbed.run((*TRAIN, "--out", OUT), tmp_path_factory.mktemp("two"), world=2)


@pytest.mark.parametrize("rank", [0, 1])
def test_one_of_two_processes_is_killed(of_two, tmp_path, rank):
    running = of_two.started(tmp_path)
    until_saved(running, tmp_path)
    killed = time.monotonic()
    running.signal(signal.SIGKILL, rank=rank)
    codes = running.codes
    assert time.monotonic() - killed < SOON
    assert codes[rank] == -9
    assert codes[1 - rank] == 2
    assert running.said[1 - rank].endswith(GONE)
    saved = newest(tmp_path)
    assert 128 <= saved < 768
    assert f"resuming {OUT} at {saved} images" in of_two.assert_again(tmp_path)


@pytest.mark.slow
def test_one_of_two_under_the_launcher_is_killed(of_two, tmp_path):
    """The launcher ends the other, and the same command goes on."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]
    command = [*launcher, "--standalone", str(ROOT / "train/dit.py"), *of_two.command[1:]]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    environment["PYTHONPATH"] = str(ROOT)

    def launched() -> subprocess.Popen:
        return subprocess.Popen(
            command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True
        )

    with launched() as running:
        deadline = time.monotonic() + 120
        while not (tmp_path / OUT / "checkpoints/images-000000128").exists():
            assert running.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.005)
        os.kill(children(running.pid)[1], signal.SIGKILL)
        _, said = running.communicate(timeout=60)
        assert running.returncode != 0
        assert "SIGKILL" in said
    assert 128 <= newest(tmp_path) < 768
    with launched() as running:
        _, said = running.communicate(timeout=120)
        assert running.returncode == 0, said
    assert_same(tmp_path / OUT, of_two.folder / OUT)

"""Workers that read beside the main process: what they send, and when they are killed."""

import multiprocessing
import os
import random
import resource
import signal
from collections.abc import Callable

import pytest
import torch
from torch.utils.data import DataLoader

from diffgen.config.data import ShapesConfig
from diffgen.data.fit import Limits
from diffgen.data.loader import load_batches
from diffgen.data.order import BatchNumbers, TrainingData
from diffgen.data.prepared_encoding import Encoding
from diffgen.data.prepared_images import PreparedImages
from diffgen.data.prepared_plan import Shard
from diffgen.data.shapes import Shapes
from diffgen.data.source import build_images
from diffgen.data.workers import ALIGNED, Watched, pack, unpack
from diffgen.errors import UserError
from diffgen.signals import ignore_in_worker

DEATH = "process {pid}, which reads the data, was ended by SIGKILL"
LESS = r"fewer workers or a smaller vae\.batch_size need less"
ADVICE = {
    signal.SIGKILL: f"the system may have run out of memory; {LESS}",
    signal.SIGBUS: f"shared memory, /dev/shm, may be full; {LESS}; or a file that is read was cut "
    "short meanwhile",
}


def alone(work: Callable[[], None]) -> None:
    """``work`` in a process of its own, which may neither fail nor hang."""
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join(30)
    hung = process.is_alive()
    process.kill()
    process.join()
    assert not hung
    assert process.exitcode == 0


def encoding(batch_size: int, workers: int) -> Encoding:
    """Of one channel, for a tenth of the images' red."""
    return Encoding(
        posterior=lambda images: images[:, :1, ::8, ::8].repeat(1, 2, 1, 1) / 10,
        channels=1,
        factor=8,
        batch_size=batch_size,
        dtype=torch.float32,
        flip=False,
        skip=False,
        workers=workers,
    )


def scenes(count: int) -> tuple[PreparedImages, Shard]:
    """Of 16 x 16."""
    images = PreparedImages(Shapes(16, 16, num_images=count), seed=0)
    return images, Shard("one", (2, 2), range(count))


def mixed(workers: int, batch: int, count: int) -> list[dict]:
    """The batches of scenes that keep their shape."""
    config = ShapesConfig(size="16x16", crop="none")
    data = TrainingData(build_images(config, limits=Limits(4)), 0, mixed_sizes=True)
    return list(load_batches(data, BatchNumbers(0, count, batch), workers, pin_memory=False))


def test_tensors_that_are_packed_come_out_as_they_were():
    grid = torch.arange(105.0)
    packed = [
        grid.view(3, 5, 7),
        grid.view(5, 7, 3).permute(2, 0, 1),  # as pictures are read
        grid.view(3, 5, 7)[:, 1:3, 2:4],
        grid[:1],
    ]
    there = unpack(pack(packed))
    for one, other in zip(packed, there, strict=True):
        assert torch.equal(one, other)
        assert other.data_ptr() % ALIGNED == 0
    assert there[1].stride() == packed[1].stride()
    assert len({one.untyped_storage().data_ptr() for one in there}) == 1
    assert unpack(pack([])) == []


def test_workers_send_images_of_mixed_sizes_as_they_are():
    own, sent = mixed(0, 5, 20), mixed(2, 5, 20)
    for one, other in zip(own, sent, strict=True):
        assert len({image.shape for image in one["image"]}) > 1
        assert torch.equal(one["number"], other["number"])
        assert all(map(torch.equal, one["image"], other["image"]))


def few_descriptors() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))


def test_a_large_batch_of_mixed_sizes_takes_few_file_descriptors():
    def work() -> None:
        few_descriptors()
        (one, _) = mixed(1, 100, 200)
        assert len(one["image"]) == 100

    alone(work)


def test_a_large_batch_to_encode_takes_few_file_descriptors():
    def work() -> None:
        few_descriptors()
        found, _ = encoding(batch_size=100, workers=1).encode(*scenes(200), lambda done: None)
        expected, _ = encoding(batch_size=100, workers=0).encode(*scenes(200), lambda done: None)
        assert all(torch.equal(expected[name], found[name]) for name in expected)

    alone(work)


def test_a_worker_that_is_killed_at_any_moment_is_told():
    """A kill may strike while the worker sends, or holds a lock that the others wait for."""

    def work() -> None:
        rng = random.Random(0)
        data = TrainingData(Shapes(8, 8), seed=0)
        for _ in range(20):
            batches = load_batches(data, BatchNumbers(0, 10**6, 1), workers=2, pin_memory=False)
            next(batches)
            workers = multiprocessing.active_children()
            killed = rng.choice(workers).pid

            def kill(signum, frame, pid=killed):
                os.kill(pid, signal.SIGKILL)

            signal.signal(signal.SIGALRM, kill)
            signal.setitimer(signal.ITIMER_REAL, rng.uniform(0.001, 0.03))
            with pytest.raises(UserError, match=DEATH.format(pid=killed)):
                for _ in batches:
                    pass
            assert [worker.exitcode for worker in workers] == [-signal.SIGKILL] * 2

    alone(work)


def test_a_lock_that_died_with_its_holder_is_not_waited_for():
    """The one that torch takes to tell workers of the end, and they to hear of it."""

    def work() -> None:
        data, numbers = TrainingData(Shapes(8, 8), seed=0), BatchNumbers(0, 10**6, 1)
        loader = DataLoader(
            data, batch_sampler=numbers, num_workers=2, worker_init_fn=ignore_in_worker
        )
        watched = Watched(loader, "workers", "batch", "again")
        holder = os.fork()
        if holder == 0:
            watched.batches._workers_done_event._cond.acquire()
            os._exit(0)
        os.waitpid(holder, 0)
        os.kill(watched.workers[0].pid, signal.SIGKILL)
        with pytest.raises(UserError, match=DEATH.format(pid=watched.workers[0].pid)):
            list(watched)

    alone(work)


@pytest.mark.parametrize(("number", "advice"), list(ADVICE.items()), ids=["memory", "bus"])
def test_a_worker_that_dies_while_it_reads_for_prepare_is_told_with_its_fields(number, advice):
    def kill(done: int) -> None:
        for worker in multiprocessing.active_children():
            os.kill(worker.pid, number)

    with pytest.raises(UserError) as found:
        encoding(batch_size=2, workers=1).encode(*scenes(20), kill)
    told = rf"^workers: process \d+, which reads the data, was ended by {number.name}: {advice}"
    assert found.match(f"{told}; the same command goes on$")

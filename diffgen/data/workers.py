"""Processes that read beside the training: what becomes of it when one of them dies."""

import multiprocessing
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any

from torch.utils.data import DataLoader

from diffgen.errors import UserError

SPARING = "fewer workers or a smaller train.batch_size need less"
ADVICE = {
    signal.SIGKILL: f"the system may have run out of memory; {SPARING}",
    signal.SIGBUS: f"shared memory, /dev/shm, may be full; {SPARING}",
}


class Watched:
    """The batches of a loader, while its workers live.

    torch raises a worker's death wherever the training stands, which may be in the middle of a
    step or of a checkpoint. Here it is told where a batch is waited for, at once, and nowhere else.
    """

    def __init__(self, loader: DataLoader[Any]) -> None:
        before = multiprocessing.active_children()
        with _deaths_told_to(signal.SIG_DFL):
            self.batches = iter(loader)  # sets a handler of torch's own
        self.workers = [one for one in multiprocessing.active_children() if one not in before]

    def __iter__(self) -> Iterator[Any]:
        """The batches in turn.

        Raises:
            UserError: a worker is dead.
        """
        while True:
            with _deaths_told_to(self._check):
                self._check()
                try:
                    batch = next(self.batches)
                except StopIteration:
                    return
                except (RuntimeError, OSError, EOFError):  # its batch was lost with it
                    self._check()
                    raise
            yield batch

    def _check(self, signum: int = 0, frame: FrameType | None = None) -> None:
        for worker in self.workers:
            if worker.exitcode:
                raise UserError(_told(worker))


def _told(worker: BaseProcess) -> str:
    code = worker.exitcode or 0
    how, advice = f"with code {code}", ""
    if code < 0:
        number = signal.Signals(-code)
        how, advice = f"by {number.name}", ADVICE.get(number, "")
    return (
        f"train.workers: process {worker.pid}, which reads the data, was ended {how}"
        f"{advice and f': {advice}'}; the same command goes on from the last checkpoint"
    )


@contextmanager
def _deaths_told_to(handler: Any) -> Iterator[None]:
    """``handler`` is called when a child process ends, in the block alone."""
    if not hasattr(signal, "SIGCHLD") or threading.current_thread() is not threading.main_thread():
        yield  # then torch finds a death within seconds
        return
    before = signal.signal(signal.SIGCHLD, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, before)

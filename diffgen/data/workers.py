"""Processes that read beside the main one: what they send, and what becomes of it when one dies."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._C import _remove_worker_pids
from torch.utils.data import DataLoader

from diffgen.errors import UserError

ALIGNED = 64
"""Bytes; memory of torch's own begins at a multiple of them."""


class Packed(NamedTuple):
    """Tensors of any sizes, as one.

    Every tensor that comes from a worker holds a file descriptor open in it and in the main
    process, of which a system may allow 1024.
    """

    flat: Tensor
    places: list[tuple[tuple[int, ...], tuple[int, ...], int]]
    """Shape, strides and offset of each."""


def pack(tensors: list[Tensor]) -> Packed:
    """``tensors``, of one dtype, copied into one."""
    dtype = tensors[0].dtype if tensors else torch.float32
    places, end, step = [], 0, ALIGNED // dtype.itemsize
    for one in tensors:
        strides = torch.empty_like(one, device="meta").stride()  # dense, in the order of ``one``
        places.append((tuple(one.shape), strides, end))
        end += -(-one.numel() // step) * step
    packed = Packed(torch.empty(end, dtype=dtype), places)
    for one, copy in zip(tensors, unpack(packed), strict=True):
        copy.copy_(one)
    return packed


def unpack(packed: Packed) -> list[Tensor]:
    """The tensors of a ``Packed``: parts of its memory, laid out as those that were packed."""
    return [torch.as_strided(packed.flat, *place) for place in packed.places]


class _Death(BaseException):
    """A worker's; no ``Exception``, into which torch looks, waiting for what the dead may hold."""

    def __init__(self, worker: BaseProcess) -> None:
        super().__init__()
        self.worker = worker


class Watched:
    """The batches of a loader, while its workers live.

    torch raises a worker's death wherever the main process stands, which may be in the middle of a
    step or of a checkpoint. Here it is told where a batch is waited for, at once, and nowhere else.
    """

    def __init__(self, loader: DataLoader[Any], field: str, batch_size: str, again: str) -> None:
        """A message names ``field``, of the workers, and ``batch_size``, that of their batches.

        ``again``: what becomes of the command when it is run again.
        """
        self.field, self.batch_size, self.again = field, batch_size, again
        with _deaths_told_to(signal.SIG_DFL):
            self.batches: Any = iter(loader)  # sets a handler of torch's own
        self.workers: list[BaseProcess] = getattr(self.batches, "_workers", [])
        self.dead: BaseProcess | None = None

    def __iter__(self) -> Iterator[Any]:
        """The batches in turn.

        Raises:
            UserError: a worker is dead.
        """
        with self._pinning_unheard():
            try:
                while True:
                    with _deaths_told_to(self._check):
                        self._check()
                        try:
                            batch = next(self.batches)
                        except StopIteration:
                            return
                        except (RuntimeError, OSError, EOFError):  # its batch was lost with it
                            self._reap()
                            self._check()
                            raise
                    yield batch
            except _Death as death:
                raise UserError(self._told(death.worker)) from None
            finally:
                if any(worker.exitcode for worker in self.workers):
                    self._abandon()

    def _check(self, signum: int = 0, frame: FrameType | None = None) -> None:
        self.dead = self.dead or next((one for one in self.workers if one.exitcode), None)
        if self.dead is None:
            return
        for worker in self.workers:
            worker.kill()  # or one that was just sending would complain of being left
        if _finalising(frame):
            return  # an error would be lost there; the end of the others brings it up again
        if signum:
            signal.signal(signum, signal.SIG_DFL)  # another death is no more news
        raise _Death(self.dead)

    def _ended(self) -> list[Any]:
        """Sentinels of workers that end within a second.

        Their sockets close, which is an error here, a moment before they have an exit code.
        """
        return wait([worker.sentinel for worker in self.workers], timeout=1)

    def _reap(self) -> None:
        ended = self._ended()
        for worker in self.workers:
            if worker.sentinel in ended:
                worker.join()

    def _abandon(self) -> None:
        """Kill all workers, and have torch ask nothing more of them.

        It would take a lock to tell them of the end, which a worker that was killed may hold for
        ever; they ignore SIGTERM, and one that waits for such a lock hears of nothing else.
        """
        for worker in self.workers:
            worker.kill()
        for worker in self.workers:
            worker.join()
        if not self.batches._shutdown:
            self.batches._shutdown = True
            _remove_worker_pids(id(self.batches))
            if hasattr(self.batches, "_pin_memory_thread"):
                self.batches._pin_memory_thread_done_event.set()

    @contextmanager
    def _pinning_unheard(self) -> Iterator[None]:
        """The thread that pins memory prints no traceback when a worker's death ends it too."""
        thread, before = getattr(self.batches, "_pin_memory_thread", None), threading.excepthook

        def tell(what: threading.ExceptHookArgs) -> None:
            if what.thread is not thread or not self._ended():
                before(what)

        threading.excepthook = tell
        try:
            yield
        finally:
            threading.excepthook = before

    def _told(self, worker: BaseProcess) -> str:
        code = worker.exitcode or 0
        how, advice = f"with code {code}", ""
        less = f"fewer workers or a smaller {self.batch_size} need less"
        if code < 0:
            how = f"by {signal.Signals(-code).name}"
        if code == -signal.SIGKILL:
            advice = f": the system may have run out of memory; {less}"
        elif code == -signal.SIGBUS:
            advice = (
                f": shared memory, /dev/shm, may be full; {less}; or a file that is read was cut "
                "short meanwhile"
            )
        return (
            f"{self.field}: process {worker.pid}, which reads the data, was ended {how}{advice}; "
            f"{self.again}"
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


def _finalising(frame: FrameType | None) -> bool:
    while frame and frame.f_code.co_name != "__del__":
        frame = frame.f_back
    return frame is not None

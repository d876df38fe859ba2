"""SIGINT and SIGTERM: the first asks for an orderly end, the second ends the process at once.

The second finds the operating system's own handler, so it works even inside a collective that
waits for a process that is gone, where Python's handlers never run.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TypeAlias

Handler: TypeAlias = Callable[[int, FrameType | None], None] | signal.Handlers
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """The command was asked to stop by a signal, and did; its message says what is left."""

    def __init__(self, signum: int, message: str = "") -> None:
        super().__init__(message)
        self.signum = signum

    @property
    def exit_code(self) -> int:
        """128 + signal, as shells have it: 130 for SIGINT, 143 for SIGTERM."""
        return 128 + self.signum

    @property
    def name(self) -> str:
        """``SIGINT`` or ``SIGTERM``."""
        return signal.Signals(self.signum).name


class Request:
    """Whether a signal has come; ``signum`` is 0 until then."""

    signum: int = 0


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise ``Interrupted`` where the block stands when the first signal comes."""

    def stop(signum: int, frame: FrameType | None) -> None:
        _set(signal.SIG_DFL)
        raise Interrupted(signum)

    with _handled_by(stop):
        yield


@contextmanager
def deferred() -> Iterator[Request]:
    """Only note the first signal, for the block to ask after where it can stop."""
    request = Request()

    def note(signum: int, frame: FrameType | None) -> None:
        _set(signal.SIG_DFL)
        request.signum = signum

    with _handled_by(note):
        yield request


@contextmanager
def ignored() -> Iterator[None]:
    """Let no signal disturb the block."""
    with _handled_by(signal.SIG_IGN):
        yield


def ignore_in_worker(worker: int) -> None:
    """Leave signals to the training process, which ends a loader's workers itself."""
    _set(signal.SIG_IGN)


@contextmanager
def _handled_by(handler: Handler) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers, and only it gets signals
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    _set(handler)
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def _set(handler: Handler) -> None:
    """For every signal but one the process was started to ignore, as by nohup."""
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)

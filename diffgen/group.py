"""The processes of one run: which one this is, its part of the work, and leaving a block together.

Work is dealt out in whole batches. A batch holds the same images whatever the number of
processes, so what is computed of an image does not depend on it.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from accelerate import PartialState

from diffgen.errors import SharedError, UserError
from diffgen.signals import Interrupted

# The main process may save or draw a preview for long; a process that dies breaks its connections.
PATIENCE = timedelta(hours=12)

LOST = ("Connection closed", "Connection reset", "Broken pipe", "Socket closed")
"""What gloo says when the other end has died."""
GONE = "another process of this launch is gone; the same command goes on from what is kept"

T = TypeVar("T")


def cut(count: int, batch_size: int) -> list[range]:
    """Numbers 0 ... count - 1 in batches of ``batch_size``; the last may be smaller."""
    return [range(k, min(k + batch_size, count)) for k in range(0, count, batch_size)]


@dataclass(frozen=True)
class Group:
    """Process ``rank`` of ``world``; it talks to the others over gloo, never over a GPU's queue."""

    rank: int = 0
    world: int = 1
    channel: Any = None
    """torch's process group; None: there is one process."""

    @classmethod
    def join(cls, cpu: bool) -> "Group":
        """The processes torchrun or accelerate started, or this one alone. All must call it.

        Args:
            cpu: compute on the CPU though there may be a GPU.
        """
        state = PartialState(cpu=cpu or not torch.cuda.is_available())
        if state.num_processes == 1:
            return cls()
        channel = dist.new_group(backend="gloo", timeout=PATIENCE)
        return cls(state.process_index, state.num_processes, channel)

    def leave(self) -> None:
        """Close the connections. All must call it."""
        if self.world > 1:
            PartialState().destroy_process_group()

    @property
    def main(self) -> bool:
        """True for the one process that writes and prints."""
        return self.rank == 0

    def deal(self, batches: Sequence[T]) -> Sequence[T]:
        """This process's batches of all: every ``world``-th, in order."""
        return batches[self.rank :: self.world]

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """Let one process of a machine through before its others, for downloads."""
        if self.world == 1:
            yield
            return
        state = PartialState()
        if not state.is_local_main_process:
            state.wait_for_everyone()
        try:
            yield
        finally:  # the others must not wait for one that failed
            if state.is_local_main_process:
                state.wait_for_everyone()

    def everyones(self, thing: T) -> list[T]:
        """What each process gives, in their order. All must call it."""
        if self.world == 1:
            return [thing]
        given: list[Any] = [None] * self.world
        dist.all_gather_object(given, thing, group=self.channel)
        return given

    def largest(self, number: int) -> int:
        """The largest of all processes' numbers. All must call it."""
        if self.world == 1:
            return number
        shared = torch.tensor(number)
        dist.all_reduce(shared, dist.ReduceOp.MAX, group=self.channel)
        return int(shared)

    @contextmanager
    def connected(self) -> Iterator[None]:
        """Say in a sentence that another process is gone, as soon as a collective shows it.

        Raises:
            UserError: a connection to another process is lost. Each that is left says so.
        """
        try:
            yield
        except RuntimeError as error:
            if self.world == 1 or not any(sign in str(error) for sign in LOST):
                raise
            raise UserError(GONE) from error

    @contextmanager
    def together(self) -> Iterator[None]:
        """Leave the block when all processes have done theirs, or fail with the one that failed.

        The block itself must hold nothing that waits for other processes.

        Raises:
            SharedError: one process met a UserError.
            UserError: one process is gone.
            Interrupted: one process got a signal.
            SystemExit: another process failed in a way of its own, which it reports.
        """
        if self.world == 1:
            yield
            return
        problem: BaseException | None = None
        try:
            yield
        except BaseException as error:
            problem = error
        try:
            if not self.largest(problem is not None):
                return
            problems = self._exchange(problem)
        except RuntimeError as lost:
            raise problem or UserError(GONE) from lost
        self._raise(problem, problems)

    def _exchange(self, problem: BaseException | None) -> list[Any]:
        """What each process met: None, a message, a signal's number, or True for anything else."""
        match problem:
            case UserError():
                mine: object = str(problem)
            case Interrupted():
                mine = problem.signum
            case _:
                mine = True if problem else None
        return self.everyones(mine)

    def _raise(self, problem: BaseException | None, problems: list[Any]) -> None:
        messages = [met for met in problems if isinstance(met, str)]
        signals = [met for met in problems if isinstance(met, int) and met is not True]
        if problem is not None and not isinstance(problem, UserError | Interrupted):
            raise problem
        if messages:
            raise SharedError(messages[0]) from problem
        if signals:
            raise Interrupted(max(signals)) from problem
        sys.exit(1)


ALONE = Group()

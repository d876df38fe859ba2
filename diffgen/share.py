"""Work dealt out to the processes of one launch in whole batches.

A batch holds the same images whatever the number of processes, so what is computed of an image
does not depend on it.
"""

import atexit
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor

from diffgen.errors import UserError


@dataclass(frozen=True)
class Share:
    """The part of process ``index`` of ``count``; by default of one that works alone."""

    index: int = 0
    count: int = 1

    @classmethod
    def of_launch(cls, cpu: bool) -> "Share":
        """This process's part among those torchrun or accelerate started; ``cpu``: by gloo."""
        from accelerate import PartialState

        state = PartialState(cpu=cpu)
        if state.num_processes > 1:
            atexit.register(state.destroy_process_group)
        return cls(state.process_index, state.num_processes)

    @property
    def is_main(self) -> bool:
        """True for the one process that prints and writes."""
        return self.index == 0

    def batches(self, total: int, batch_size: int) -> Iterator[range]:
        """Image numbers of this process's batches: every ``count``-th of all, in order."""
        for first in range(self.index * batch_size, total, self.count * batch_size):
            yield range(first, min(first + batch_size, total))

    def images(self, total: int, batch_size: int) -> int:
        """Images in this process's batches."""
        return sum(map(len, self.batches(total, batch_size)))

    def sum(self, x: Tensor) -> Tensor:
        """``x`` added up over the processes, the same on each; all must call it."""
        if self.count == 1:
            return x
        from accelerate.utils import reduce

        return reduce(x, "sum")

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """Let one process of a machine through before its others, for downloads."""
        if self.count == 1:
            yield
            return
        from accelerate import PartialState

        state = PartialState()
        if not state.is_local_main_process:
            state.wait_for_everyone()
        try:
            yield
        finally:  # the others must not wait for one that failed
            if state.is_local_main_process:
                state.wait_for_everyone()

    @contextmanager
    def together(self) -> Iterator[None]:
        """A step that may fail in one process alone: its UserError is then raised in all.

        Otherwise the others would wait for it in the next ``sum``, and die of a lost connection.
        """
        problem = None
        try:
            yield
        except UserError as error:
            problem = str(error)
        told = [problem]
        if self.count > 1:
            from accelerate.utils import gather_object

            told = gather_object(told)
        for message in told:
            if message is not None:
                raise UserError(message)


ALONE = Share()

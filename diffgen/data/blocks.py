"""A shuffled order for a stream that is read from its start to its end, of unknown length."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Generic, TypeVar

import numpy as np

from diffgen.errors import UserError
from diffgen.seeding import stream_seed

Example = TypeVar("Example")


@dataclass
class Blocks(Generic[Example]):
    """A stream cut into blocks of ``size`` examples, one of which is held at a time.

    Asking for blocks in rising order reads the stream once; going back starts it anew. A process
    that inherits an open stream by a fork opens its own.
    """

    read: Callable[[int], Iterator[Example]]
    """The examples from the one of this number on."""
    size: int
    count: int | None = field(default=None, init=False)
    """Length of the stream, once its end has been met."""
    _held: list[Example] = field(default_factory=list, init=False)
    _number: int = field(default=-1, init=False)
    _examples: Iterator[Example] | None = field(default=None, init=False)
    _next: tuple[int, int] = field(default=(-1, -1), init=False)
    """The process that reads and the block its stream stands at."""

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_examples": None}  # a worker opens a stream of its own

    def block(self, number: int) -> list[Example]:
        """Examples ``number * size`` on: fewer than ``size`` at the end, none beyond it."""
        if number != self._number:
            self._held, self._number = list(islice(self._stream(number), self.size)), number
            if len(self._held) < self.size and self.count is None:
                self.count = self._length(number)
        return self._held

    def _stream(self, number: int) -> Iterator[Example]:
        """The stream at a block: going on when it is the next one, otherwise opened anew."""
        if (os.getpid(), number) != self._next or self._examples is None:
            self._examples = self.read(number * self.size)
        self._next = (os.getpid(), number + 1)
        return self._examples

    def _length(self, number: int) -> int:
        """Length of the stream, when block ``number`` was found not to be full."""
        if self._held or number == 0:
            return number * self.size + len(self._held)
        return sum(1 for _ in self.read(0))  # opened beyond its end, which tells nothing


@dataclass(frozen=True)
class BlockOrder:
    """Every example once an epoch: block by block, each in an order of its own.

    It is what a shuffle buffer gives that is filled, emptied at random and filled again; unlike
    one that is refilled as it goes, the place of a sample is known without replaying all before.
    """

    blocks: Blocks
    seed: int

    def index(self, number: int) -> int:
        """The example that sample ``number`` shows; reads on to its block.

        Raises:
            UserError: the stream is empty.
        """
        count = self.blocks.count
        if count == 0:
            raise UserError("data.name: the dataset holds no rows")
        epoch, place = divmod(number, count) if count else (0, number)
        block, offset = divmod(place, self.blocks.size)
        length = len(self.blocks.block(block))
        if offset >= length:
            if count is not None:
                raise UserError("data.name: the dataset became shorter while it was read")
            return self.index(number)  # the end came before it, so the length is known now
        stream = stream_seed(self.seed, f"block {block}", epoch)
        order = np.random.default_rng(stream + 2**63).permutation(length)
        return block * self.blocks.size + int(order[offset])

"""The shuffled order of a stream: every example once an epoch, from wherever one starts."""

import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffgen.data.blocks import BlockOrder, Blocks
from diffgen.errors import UserError


class Stream:
    """A stream of 100, 101, ... that counts how often it is opened and how far it is read."""

    def __init__(self, length: int) -> None:
        self.length, self.opened, self.read = length, [], 0

    def __call__(self, start: int):
        self.opened.append(start)
        for value in range(start, self.length):
            self.read += 1
            yield 100 + value


def order_of(length: int, size: int, seed: int = 0) -> tuple[BlockOrder, Stream]:
    stream = Stream(length)
    return BlockOrder(Blocks(stream, size), seed), stream


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 30), st.integers(1, 12), st.integers(0, 99))
def test_each_epoch_shows_every_example_once_block_by_block(length, size, seed):
    order, _ = order_of(length, size, seed)
    for epoch in range(3):
        shown = [order.index(epoch * length + place) for place in range(length)]
        for first in range(0, length, size):
            block = shown[first : first + size]
            assert sorted(block) == list(range(first, min(first + size, length)))


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 30), st.integers(1, 12), st.lists(st.integers(0, 100), min_size=1))
def test_a_number_is_one_example_whatever_was_asked_before(length, size, numbers):
    whole, _ = order_of(length, size)
    expected = [whole.index(number) for number in range(101)]
    other, _ = order_of(length, size)
    assert [other.index(number) for number in numbers] == [expected[n] for n in numbers]


def test_the_block_of_a_number_is_at_hand():
    order, _ = order_of(25, 10)
    for number in (0, 9, 13, 24, 31, 60):
        index = order.index(number)
        assert order.blocks.block(index // 10)[index % 10] == 100 + index


def test_an_epoch_reads_the_stream_once():
    order, stream = order_of(25, 10)
    for number in range(25):
        order.index(number)
    assert (stream.opened, stream.read) == ([0], 25)
    order.index(25)
    assert stream.opened == [0, 0]


def test_resuming_skips_forward():
    order, stream = order_of(100, 10)
    order.index(57)
    assert (stream.opened, stream.read) == ([50], 10)


def test_epochs_blocks_and_seeds_are_shuffled_differently():
    orders = set()
    for seed in (0, 1):
        order, _ = order_of(40, 20, seed)
        for first in range(0, 160, 20):
            orders.add(tuple(order.index(first + place) % 20 for place in range(20)))
    assert len(orders) == 16
    assert tuple(range(20)) not in orders


def test_another_process_opens_a_stream_of_its_own():
    order, stream = order_of(30, 10)
    order.index(0)
    other = pickle.loads(pickle.dumps(order))
    assert [other.index(number) for number in range(30)] == [order.index(n) for n in range(30)]
    assert stream.opened == [0]


def test_an_empty_stream_is_refused():
    order, _ = order_of(0, 10)
    with pytest.raises(UserError, match="holds no rows"):
        order.index(0)


def test_a_stream_that_shrinks_is_refused():
    order, stream = order_of(25, 10)
    for number in range(25):
        order.index(number)
    stream.length = 12
    with pytest.raises(UserError, match="became shorter"):
        [order.index(number) for number in range(25, 50)]

"""Which picture a sample number is, and who computes it."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diffgen.data.order import BatchNumbers, EpochOrder, TrainingData
from diffgen.data.shapes import Shapes


@settings(max_examples=60, deadline=None)
@given(*[st.integers(1, 4)] * 3, st.integers(0, 5), st.integers(1, 5))
def test_processes_and_pieces_share_out_the_global_batch(world, pieces, micro, first, batches):
    """Every global batch is the same consecutive numbers, each computed exactly once."""
    size = world * pieces * micro
    start, stop = first * size, (first + batches) * size
    ranks = [list(BatchNumbers(start, stop, size, pieces, rank, world)) for rank in range(world)]
    for numbers in ranks:
        assert len(numbers) == batches * pieces
        assert {len(piece) for piece in numbers} == {micro}
    for batch in range(batches):
        mine = [
            number
            for numbers in ranks
            for piece in numbers[batch * pieces : (batch + 1) * pieces]
            for number in piece
        ]
        assert sorted(mine) == list(range(start + batch * size, start + (batch + 1) * size))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 4), st.integers(1, 3), st.integers(0, 9))
def test_resuming_gives_the_tail(world, pieces, done):
    size = world * pieces * 2
    for rank in range(world):
        whole = BatchNumbers(0, 10 * size, size, pieces, rank, world)
        rest = BatchNumbers(done * size, 10 * size, size, pieces, rank, world)
        assert list(rest) == list(whole)[done * pieces :]
        assert len(rest) == len(list(rest))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(0, 1000))
def test_each_epoch_shows_every_image_once(count, seed):
    order = EpochOrder(count, seed)
    for epoch in range(3):
        shown = [order.index(epoch * count + place) for place in range(count)]
        assert sorted(shown) == list(range(count))


def test_epochs_and_seeds_differ():
    orders = {
        (seed, epoch): tuple(EpochOrder(50, seed).index(50 * epoch + k) for k in range(50))
        for seed in range(3)
        for epoch in range(3)
    }
    assert len(set(orders.values())) == 9
    assert tuple(range(50)) not in orders.values()


def test_the_image_of_a_number_does_not_depend_on_what_was_asked_before():
    """Forwards, backwards across epochs, and from a fresh start in the middle."""
    numbers = range(0, 70, 3)
    order = EpochOrder(20, 5)
    forwards = [order.index(n) for n in numbers]
    assert [order.index(n) for n in reversed(numbers)][::-1] == forwards
    torch.manual_seed(0)
    assert [EpochOrder(20, 5).index(n) for n in numbers] == forwards


def test_samples_are_the_images_of_the_order():
    images = Shapes(8, 8, num_images=10)
    data = TrainingData(images, seed=4)
    for number in (0, 9, 10, 25):
        sample = data[number]
        pixels, label = images[data.order.index(number)]
        assert torch.equal(sample["image"], pixels)
        assert (sample["label"], sample["number"]) == (label, number)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_meets_the_same_samples_with_workers(workers):
    data = TrainingData(Shapes(8, 8, num_images=10), seed=4)
    numbers = BatchNumbers(8, 24, 8, accumulation=2)
    loader = torch.utils.data.DataLoader(data, batch_sampler=numbers, num_workers=workers)
    batches = list(loader)
    assert [batch["number"].tolist() for batch in batches] == list(numbers)
    expected = torch.stack([data[n]["image"] for n in range(8, 24)])
    assert torch.equal(torch.cat([batch["image"] for batch in batches]), expected)

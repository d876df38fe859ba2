"""Whole batches dealt out to processes, and a set of images put together again."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diffgen.group import Group, cut
from diffgen.metrics import load_extractor
from diffgen.metrics.read import read


@given(st.integers(0, 60), st.integers(1, 9), st.integers(1, 5))
def test_the_shares_are_the_batches_of_one_process_without_duplicates_or_gaps(total, size, count):
    batches = cut(total, size)
    assert [k for batch in batches for k in batch] == list(range(total))
    assert all(len(batch) == size for batch in batches[:-1])
    hands = [Group(rank, count).deal(batches) for rank in range(count)]
    assert sorted((b for hand in hands for b in hand), key=lambda b: b.start) == batches
    lengths = [len(hand) for hand in hands]
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[0] - lengths[-1] <= 1


def test_a_reading_is_in_the_order_of_the_numbers_and_misses_none():
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randint(0, 256, (5, 3, 16, 16), dtype=torch.uint8, generator=generator)
    labels, reader = torch.arange(5), load_extractor()
    batches = [(part, pictures[part], labels[part]) for part in ([3, 4], [0, 1], [2])]
    found = read(reader, batches, 5, ("circle", "", "star"))
    torch.testing.assert_close(found.features, reader(pictures), rtol=1e-5, atol=1e-6)
    assert found.labels.tolist() == [0, 1, 2, 3, 4]
    assert found.label_counts() == {
        "circle": 1,
        "label 1": 1,
        "star": 1,
        "label 3": 1,
        "label 4": 1,
    }
    assert found.correct(reader) is None
    for wrong in (batches[:2], [*batches, batches[0]]):
        with pytest.raises(RuntimeError, match="did not read every image once"):
            read(reader, wrong, 5)

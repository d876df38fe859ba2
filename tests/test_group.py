"""Whole batches dealt out to processes."""

from hypothesis import given
from hypothesis import strategies as st

from diffgen.group import Group, cut


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

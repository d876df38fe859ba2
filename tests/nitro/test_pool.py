"""The pool's compartments, and which heads an iteration draws from them."""

import pytest
import torch

from diffgen.nitro.pool import GLOBAL, LOCAL, UNTOLD, Compartments, head_types
from diffgen.seeding import stream_generator

FULL = Compartments(levels=4, types=3, taps=10, size=480)


def drawn(compartments: Compartments, share: int, turns: int, level: int = 0) -> torch.Tensor:
    """(turns, types, taps, share)."""
    draws = [
        compartments.draw(level, share, stream_generator(0, "turn", turn)) for turn in range(turns)
    ]
    return torch.stack(draws)


@pytest.mark.parametrize(
    ("sizes", "each", "total"),
    [
        ((4, 3, 10, 480), 4, 480),
        ((4, 3, 8, 480), 5, 480),
        ((4, 3, 10, 500), 4, 480),
        ((4, 1, 10, 480), 12, 480),
        ((1, 3, 10, 480), 16, 480),
        ((4, 3, 10, 119), 0, 0),
    ],
)
def test_a_pool_is_dealt_out_evenly_and_what_is_left_over_is_not_made(sizes, each, total):
    compartments = Compartments(*sizes)
    assert (compartments.each, compartments.total) == (each, total)


@pytest.mark.parametrize("share", [1, 2, 4])
def test_a_draw_takes_its_share_of_every_compartment_of_its_level_and_no_head_twice(share):
    seen = []
    for level in range(4):
        rows = drawn(FULL, share, 50, level)
        assert rows.shape == (50, 3, 10, share)
        cells = torch.arange(30).view(3, 10, 1) + 30 * level
        assert torch.equal(rows // 4, cells.expand_as(rows))
        assert all(len(set(turn)) == 30 * share for turn in rows.flatten(1).tolist())
        seen.append(set(rows.flatten().tolist()))
    assert sum(map(len, seen)) == len(set.union(*seen)) == 480


def test_every_head_of_a_compartment_is_as_likely():
    """Pearson's statistic of 30 compartments of 4: 90 degrees of freedom, deviation 13.4."""
    counts = torch.bincount(drawn(FULL, 1, 2000, level=2).flatten(), minlength=480).double()
    assert counts.nonzero().min() == 240
    assert counts.nonzero().max() == 359
    statistic = (counts[240:360] - 500).square().sum().item() / 500
    assert 50 < statistic < 150


def test_every_pair_of_heads_is_as_likely():
    """Of one compartment: 6 pairs, 5 degrees of freedom."""
    pairs = drawn(FULL, 2, 3000)[:, 1, 3].sort(dim=1).values - 13 * 4
    counts = torch.bincount(pairs[:, 0] * 4 + pairs[:, 1])
    counts = counts[counts > 0].double()
    assert len(counts) == 6
    assert (counts - 500).square().sum().item() / 500 < 20


def test_compartments_of_one_turn_are_drawn_apart():
    """Two of them agree in a quarter of the turns, not always."""
    rows = drawn(FULL, 1, 1000)[..., 0] % 4
    agreed = (rows[:, 0, 0] == rows[:, 2, 9]).double().mean().item()
    assert agreed == pytest.approx(0.25, abs=0.06)


def test_without_compartments_by_level_all_levels_share_the_heads():
    shared = Compartments(levels=1, types=3, taps=10, size=480)
    for level in range(4):
        generators = [stream_generator(0, "turn", 7) for _ in range(2)]
        first, other = (shared.draw(k, 2, g) for k, g in zip((0, level), generators, strict=True))
        assert torch.equal(first, other)
    assert set(drawn(shared, 2, 200).flatten().tolist()) == set(range(480))


def test_types_of_heads_that_see_crops_can_be_left_out():
    assert head_types(local=True, untold=True) == [GLOBAL, LOCAL, UNTOLD]
    assert head_types(local=True, untold=False) == [GLOBAL, LOCAL]
    assert head_types(local=False, untold=False) == [GLOBAL]
    assert [(kind.local, kind.told) for kind in (GLOBAL, LOCAL, UNTOLD)] == [
        *((False, True), (True, True), (True, False))
    ]

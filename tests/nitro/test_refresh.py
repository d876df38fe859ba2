"""Heads that begin anew: how many, how often, and that nothing of the old ones is left."""

import pytest
import torch

from diffgen.nitro.heads import HeadShape
from diffgen.nitro.pool import Pool

SHAPE = HeadShape(width=8, channels=4, convolutions=1)


def pool(count: int = 60, seed: int = 0) -> Pool:
    return Pool(SHAPE, count, seed, lr=1e-3, betas=(0.5, 0.99))


def used(count: int = 60, seed: int = 0) -> Pool:
    """As if every head had been trained: no number of its own or of its optimiser is 0."""
    made = pool(count, seed)
    for name, buffer in made.named_buffers():
        if name == "steps":
            buffer.fill_(7)
        elif name == "ages":
            buffer.fill_(9)
        else:
            buffer.fill_(2.5)
    return made


def contents(of: Pool) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in of.state_dict().items()}


def refreshed(of: Pool, rate: float, iterations: int, first: int = 0) -> torch.Tensor:
    """(iterations, count) bool: which heads began anew at each."""
    found = []
    for iteration in range(first, first + iterations):
        told = of.refresh(rate, iteration)
        found.append(of.ages == 0)
        assert told == found[-1].sum()
    return torch.stack(found)


def test_so_many_heads_begin_anew_as_the_rate_says_at_any_iteration():
    """Of 120,000 chances of 1 in 100: 1200, of deviation 34.5; and not in bunches."""
    found = refreshed(pool(count=300), 0.01, 400).double()
    assert found.sum().item() == pytest.approx(1200, abs=4 * 34.5)
    of_iteration = found.sum(dim=1)
    assert of_iteration.var().item() == pytest.approx(300 * 0.01 * 0.99, rel=0.25)
    of_head = found.sum(dim=0)
    assert of_head.var().item() == pytest.approx(400 * 0.01 * 0.99, rel=0.3)


def test_a_head_lives_one_over_the_rate_iterations():
    found = refreshed(pool(count=200), 0.05, 600)
    lives = torch.cat([column.nonzero()[:, 0].diff() for column in found.T]).double()
    assert len(lives) > 5000
    assert lives.mean().item() == pytest.approx(20, rel=0.05)
    assert lives.min() == 1  # it may be the next iteration already


def test_of_a_refreshed_head_nothing_is_left_and_the_others_keep_all():
    made = used()
    before = contents(made)
    count = made.refresh(0.3, 0)
    anew = made.ages == 0
    assert 8 < count < 30
    for name, value in contents(made).items():
        kept = before[name][~anew] + (1 if name == "ages" else 0)
        assert torch.equal(value[~anew], kept), name
        if name in ("ages", "steps") or name.startswith(("first_", "second_")):
            assert not value[anew].any(), name
        else:
            assert (value[anew] != 2.5).all(), name


def test_heads_that_begin_anew_are_as_fresh_ones_but_none_of_those_before():
    made = used(count=2000)
    first = pool(count=2000)
    made.refresh(1.0, 0)
    for name, _, deviation in SHAPE.shapes():
        found = made.get_buffer(name)
        if deviation == 0:
            assert not found.any()
            continue
        assert found.std().item() == pytest.approx(deviation, rel=0.05)
        assert abs(found.mean().item()) < 5 * deviation / found.numel() ** 0.5
        assert (found != first.get_buffer(name)).double().mean() > 0.999
    before = made.reduce.clone()
    made.refresh(1.0, 1)
    assert not torch.equal(made.reduce, before)


def test_without_refreshing_only_ages_go_on():
    made = used()
    before = contents(made)
    assert not refreshed(made, 0.0, 100).any()
    after = contents(made)
    assert (after.pop("ages") == before.pop("ages") + 100).all()
    assert all(torch.equal(value, before[name]) for name, value in after.items())


def test_what_begins_anew_follows_from_seed_and_iteration_and_goes_on_from_a_state():
    one, again, other = pool(), pool(), pool(seed=1)
    assert torch.equal(one.reduce, again.reduce)
    assert not torch.equal(one.reduce, other.reduce)
    drawn = [refreshed(each, 0.1, 20) for each in (one, again, other)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    resumed = pool(seed=0)
    resumed.load_state_dict(contents(one))
    assert torch.equal(refreshed(resumed, 0.1, 20, 20), refreshed(one, 0.1, 20, 20))
    mine, theirs = contents(resumed), contents(one)
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)

"""What an iteration's samples share: a function of the seed and the iteration, of no state."""

from collections import Counter
from dataclasses import replace

import pytest
import torch

from diffgen.nitro.features import Box
from diffgen.nitro.pool import Compartments
from diffgen.nitro.turn import Turns

TURNS = Turns(
    seed=0,
    levels=4,
    compartments=Compartments(4, 3, 4, 96),
    share=1,
    grid=(8, 6),
    local_side=0.5,
    courses=[(0, 1), (1000, 2), (2000, 4)],
)


def told(turn) -> tuple:
    return (turn.level, turn.heads.tolist(), turn.box, turn.steps, turn.call)


def test_a_turn_follows_from_seed_and_iteration_whatever_came_before():
    forwards = [told(TURNS.at(k, 5000)) for k in range(20)]
    again = replace(TURNS)
    assert [told(again.at(k, 5000)) for k in reversed(range(20))] == forwards[::-1]
    assert told(TURNS.at(3, 5000)) != told(TURNS.at(4, 5000))
    other = replace(TURNS, seed=1)
    assert [told(other.at(k, 5000)) for k in range(20)] != forwards


def test_only_the_course_hangs_on_the_images_seen():
    for k in range(20):
        early, late = TURNS.at(k, 0), TURNS.at(k, 5000)
        assert told(early)[:3] == told(late)[:3]


@pytest.mark.parametrize(
    ("seen", "known"),
    [(0, {1}), (999, {1}), (1000, {1, 2}), (1999, {1, 2}), (2000, {1, 2, 4}), (9999, {1, 2, 4})],
)
def test_a_course_opens_when_its_images_have_been_seen(seen, known):
    assert {TURNS.at(k, seen).steps for k in range(60)} == known


def test_levels_courses_and_calls_are_drawn_evenly():
    """3000 turns: counts within five deviations of their means."""
    turns = [TURNS.at(k, 5000) for k in range(3000)]
    levels = Counter(turn.level for turn in turns)
    assert set(levels) == {0, 1, 2, 3}
    assert all(abs(count - 750) < 120 for count in levels.values())
    calls = Counter((turn.steps, turn.call) for turn in turns)
    wanted = {(n, call): 1000 / n for n in (1, 2, 4) for call in range(n)}
    assert set(calls) == set(wanted)
    assert all(abs(calls[key] - mean) < 5 * mean**0.5 for key, mean in wanted.items())


def test_the_heads_are_those_of_the_turns_level():
    for k in range(50):
        turn = TURNS.at(k, 0)
        assert turn.heads.shape == (3, 4, 1)
        assert set((turn.heads // 24).flatten().tolist()) == {turn.level}


def test_boxes_are_of_the_share_asked_for_and_lie_everywhere_inside():
    boxes = Counter(TURNS.at(k, 0).box for k in range(1500))
    assert set(boxes) == {Box(top, left, 4, 3) for top in range(5) for left in range(4)}
    assert all(abs(count - 75) < 45 for count in boxes.values())
    whole = replace(TURNS, local_side=1.0).at(0, 0).box
    assert whole == Box(0, 0, 8, 6)
    assert replace(TURNS, local_side=0.01).at(0, 0).box.rows == 1


def test_more_heads_a_compartment_are_drawn_where_asked():
    heads = replace(TURNS, share=2).at(0, 0).heads
    assert heads.shape == (3, 4, 2)
    assert len(torch.unique(heads)) == 24

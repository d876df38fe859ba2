"""Which branch stands where before each evaluation of the model."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffgen.joint.course import DRAWN, GIVEN, Course, timetable

SHARES = st.floats(0, 1)


@st.composite
def courses(draw):
    start, end = sorted((draw(SHARES), draw(SHARES)))
    return Course(start, end)


@pytest.mark.parametrize(
    ("course", "steps", "places"),
    [
        (DRAWN, 10, (0, 10)),
        (GIVEN, 10, (10, 10)),
        (Course(0.3, 1), 10, (3, 10)),
        (Course(0, 0.5), 10, (0, 5)),
        (Course(0, 0), 10, (0, 0)),
        (Course(0.5, 0.5), 10, (5, 5)),
        (Course(0.3, 1), 20, (6, 20)),
        (DRAWN, 1, (0, 1)),
        (GIVEN, 1, (1, 1)),
    ],
)
def test_a_course_is_a_part_of_the_steps(course, steps, places):
    assert course.places(steps) == places


@pytest.mark.parametrize(
    ("course", "places"),
    [
        (Course(0.99, 1), (9, 10)),
        (Course(0, 0.01), (0, 1)),
        (Course(0.5, 0.51), (5, 6)),
        (Course(0.96, 0.97), (9, 10)),
    ],
)
def test_what_is_to_move_moves_at_least_one_step(course, places):
    assert course.places(10) == places


@pytest.mark.parametrize(
    ("course", "steps", "places"),
    [
        (Course(0.04, 1), 10, (1, 10)),
        (Course(0.01, 0.02), 10, (1, 2)),
        (Course(0.01, 0.01), 10, (1, 1)),
        (Course(0.3, 1), 1, (0, 1)),
        (Course(0.3, 0.3), 1, (0, 0)),
    ],
)
def test_what_starts_from_a_picture_starts_after_the_first_step(course, steps, places):
    assert course.places(steps) == places


@pytest.mark.parametrize(
    ("start", "end"), [(-0.1, 1), (0, 1.1), (0.6, 0.5), (float("nan"), 1), (0, float("nan"))]
)
def test_a_course_that_goes_back_or_beyond_is_refused(start, end):
    with pytest.raises(ValueError, match="0 <= start <= end <= 1, not"):
        Course(start, end)


@pytest.mark.parametrize(
    ("ways", "table"),
    [
        ([DRAWN, DRAWN], [[0, 0], [1, 1], [2, 2], [3, 3], [4, 4]]),
        ([DRAWN, GIVEN], [[0, 4], [1, 4], [2, 4], [3, 4], [4, 4]]),
        ([GIVEN, DRAWN], [[4, 0], [4, 1], [4, 2], [4, 3], [4, 4]]),
        ([DRAWN, Course(0.5, 1)], [[0, 2], [1, 2], [2, 3], [3, 3], [4, 4]]),
        ([DRAWN, Course(0, 0.25)], [[0, 0], [1, 0], [2, 0], [3, 0], [4, 1]]),
        ([Course(0.5, 1), Course(0.25, 0.75)], [[2, 1], [3, 2], [4, 3]]),
        ([DRAWN, Course(0.25, 1), GIVEN], [[0, 1, 4], [1, 1, 4], [2, 2, 4], [3, 3, 4], [4, 4, 4]]),
        ([GIVEN, GIVEN], [[4, 4]]),
    ],
)
def test_the_timetable_of_four_steps(ways, table):
    assert timetable(ways, 4) == table


@given(st.lists(courses(), min_size=1, max_size=4), st.integers(1, 30))
def test_all_go_from_their_start_to_their_end_and_the_longest_way_is_the_number_of_steps(
    ways, steps
):
    table, ends = timetable(ways, steps), [way.places(steps) for way in ways]
    assert table[0] == [first for first, _ in ends]
    assert table[-1] == [last for _, last in ends]
    assert len(table) - 1 == max(last - first for first, last in ends)
    for before, after in pairwise(table):
        strides = [b - a for a, b in zip(before, after, strict=True)]
        assert set(strides) <= {0, 1}
        assert max(strides) == 1
    for way, (first, last) in zip(ways, ends, strict=True):
        assert 0 <= first <= last <= steps
        assert (first < last) == (way.start < way.end)

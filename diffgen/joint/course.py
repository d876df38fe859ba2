"""When each branch of a joint sampling run is at which noise level."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Course:
    """The part of the way from noise to picture that a branch goes, as shares of the steps.

    0 is pure noise, 1 the picture. (0, 1) draws it; (1, 1) leaves it as it is given; (0.3, 1)
    starts from a given one after 0.3 of the steps, and refines it; one that ends below 1 stays
    noisy. Without a time shift a share of 0.3 is noise level 0.7 of a flow; a shift, or the levels
    of a chain, make it another.

    Raises:
        ValueError: not 0 <= start <= end <= 1.
    """

    start: float = 0.0
    end: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.start <= self.end <= 1:
            raise ValueError(
                f"a course must have 0 <= start <= end <= 1, not {self.start} to {self.end}"
            )

    def places(self, steps: int) -> tuple[int, int]:
        """First and last place on a grid of ``steps`` steps, whose place ``steps`` is the picture.

        What is not given as it is moves at least one step; what starts from a picture starts
        after the first, if there are more, for a flow has nothing of the picture at place 0.
        """
        first, last = round(self.start * steps), round(self.end * steps)
        moves = self.start < self.end
        if self.start > 0:
            first = max(first, min(1, steps - 1))
        if moves:
            first = min(first, steps - 1)
        return first, max(last, first + moves)


DRAWN, GIVEN = Course(0, 1), Course(1, 1)


def timetable(courses: Sequence[Course], steps: int) -> list[list[int]]:
    """The place of each branch before every evaluation of the model, and after the last.

    The branch with the longest way makes a step at each; the others are spread over the same
    evaluations, and rest at some of them (UniCon's released sampler does likewise).
    """
    ways = [course.places(steps) for course in courses]
    longest = max(last - first for first, last in ways)
    return [
        [first + ((last - first) * i) // max(longest, 1) for first, last in ways]
        for i in range(longest + 1)
    ]

"""What the claim about one-step students rests on, and what is shown beside it."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from diffgen.errors import UserError
from diffgen.evidence.compose import paired, rounded
from diffgen.evidence.document import AnyComparison, Values

MOST_FID = 1.3
"""FID in one step may be so many times the teacher's."""
MOST_LOST = 0.03
"""Class accuracy that may be lost."""
NO_WORSE = 1.05
"""In further steps FID may be so many times that in one."""
SINGLE = (
    *("refresh_5", "no_local", "no_unconditional", "linear", "hinge", "softplus"),
    "regression_longer",
)
"""Rows of one seed."""
Place = tuple[str, int]
"""A row, and the number of steps."""


class Side(NamedTuple):
    """A figure of one row against the same figure of another, which is first moved to a bound."""

    bears: bool
    """The claim rests on it."""
    title: str
    figure: str
    this: Place
    other: Place
    direction: str = "lower"
    factor: float = 1.0
    less: float = 0.0


def comparisons(found: Mapping[str, Any]) -> Iterator[AnyComparison]:
    """All that the rows of ``found``, which is of nitro.json, allow.

    Raises:
        UserError: one that the claim rests on has no figures.
    """
    for one in (*decisive(found), *asides(found), *ablations(found)):
        this, other = (values(found, place, one.figure) for place in (one.this, one.other))
        if this and other:
            bound = [one.factor * value - one.less for value in other]
            role = "decisive" if one.bears else "aside"
            yield paired(one.title, one.figure, one.direction, (this, bound), role)
        elif one.bears:
            raise UserError(f"evidence: {one.figure} of {one.title} is not available")
    yield from single(found)


def decisive(found: Mapping[str, Any]) -> Iterator[Side]:
    """Those the claim rests on."""
    one, teacher = ("student", 1), teacher_of(found)
    title = f"one step against {MOST_FID:g} times the teacher in {teacher[1]} steps"
    yield Side(True, title, "fid", one, teacher, factor=MOST_FID)
    title = f"one step against the teacher in {teacher[1]} steps less {MOST_LOST:g}"
    yield Side(True, title, "class_accuracy", one, teacher, "higher", less=MOST_LOST)
    title = "one step against the regression it begins with, in one step"
    yield Side(True, title, "fid", one, ("regression", 1))
    for steps in (1, 2, 4):
        title = f"one step against the teacher in {steps}"
        yield Side(True, title, "fid", one, ("plain", steps))
    for steps in (2, 4):
        title = f"{steps} steps against {NO_WORSE:g} times one"
        yield Side(True, title, "fid", ("student", steps), one, factor=NO_WORSE)


def asides(found: Mapping[str, Any]) -> Iterator[Side]:
    """More of the student beside its teacher, and of its further steps."""
    one, teacher = ("student", 1), teacher_of(found)
    title = f"one step against {MOST_FID:g} times the teacher in {teacher[1]} steps"
    yield Side(False, title, "fid_infinity", one, teacher, factor=MOST_FID)
    title = f"one step against the teacher in {teacher[1]} steps"
    yield Side(False, title, "precision", one, teacher, "higher")
    yield Side(False, title, "recall", one, teacher, "higher")
    for steps in (2, 4):
        yield Side(False, f"{steps} steps against one", "fid", ("student", steps), one)
        title = f"one step against the regression in {steps}"
        yield Side(False, title, "fid", one, ("regression", steps))


def ablations(found: Mapping[str, Any]) -> Iterator[Side]:
    """The pool of heads against what it is to be better than, seed by seed."""
    pool = ("pool", 1)
    for row, told in (
        ("fixed", "one fixed discriminator"),
        ("refresh_0", "heads never begun anew"),
        ("refresh_1", "heads begun anew with 1 %"),
    ):
        yield Side(False, f"pool against {told}", "fid", pool, (row, 1))
        yield Side(False, f"pool against {told}", "recall", pool, (row, 1), "higher")


def single(found: Mapping[str, Any]) -> Iterator[AnyComparison]:
    """The pool against rows of one seed: nothing tells how much that varies."""
    pool = values(found, ("pool", 1), "fid")
    for row in (
        "refresh_5",
        "no_local",
        "no_unconditional",
        "linear",
        "hinge",
        "softplus",
        "regression_longer",
    ):
        other = values(found, (row, 1), "fid")
        if pool and other:
            yield Values(
                name=f"pool against {row}, of one seed",
                figure="fid",
                role="aside",
                kind="independent",
                direction="lower",
                this=rounded(pool),
                other=rounded(other),
            )


def teacher_of(found: Mapping[str, Any]) -> Place:
    """The row of the teacher."""
    return "teacher", found["settings"]["teacher_steps"]


def values(found: Mapping[str, Any], place: Place, figure: str) -> list[float] | None:
    """One a seed; None: there is no such row, or a figure is not available."""
    for line in found["rows"]:
        if (line["row"], line["steps"]) == place:
            known = [one[figure] for one in line["of_seeds"]]
            return None if None in known else [one["mean"] for one in known]
    return None

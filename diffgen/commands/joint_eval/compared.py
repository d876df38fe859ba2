"""What the claim about joint generation rests on: comparisons of finished evaluations."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from diffgen.commands.lacon_sweep.finished import Sweep, values_of
from diffgen.config.joint_eval import CLAIMED
from diffgen.errors import UserError
from diffgen.evidence.compose import paired
from diffgen.evidence.document import AnyComparison

MOST_FID = 1.2
"""FID may be so many times the base's."""


class Side(NamedTuple):
    """A figure of a row, and what a value of another row is multiplied by to compare with it."""

    bears: bool
    """The claim rests on it."""
    title: str
    figure: str
    this: str
    """The row."""
    other: str
    """The row it is compared with."""
    factor: float = 1.0


def comparisons(sweeps: Sequence[Sweep]) -> Iterator[AnyComparison]:
    """Those the claim rests on, and asides.

    Raises:
        UserError: one that it rests on has no figures.
    """
    again = sweeps[0]["again"]
    for name, facts in sweeps[0]["conditions"].items():
        measure, better = facts["figure"], "higher" if facts["higher"] else "lower"
        told = {"fidelity": measure, "first": f"{measure} of the first {again} images"}
        pair = sweeps[0]["pair"]
        for one in (*of_images(name, facts), *of_both(name, pair), *of_depth(name)):
            figure, title = one.figure, f"{name}: {one.title}"
            against = "control" if figure == "first" else figure
            this, other = (
                values(sweeps, name, one.this, figure),
                values(sweeps, name, one.other, against),
            )
            if this and other:
                yield paired(
                    title,
                    told.get(figure, figure),
                    better if figure in told else "lower",
                    (this, [one.factor * value for value in other]),
                    "decisive" if one.bears else "aside",
                )
            elif one.bears:
                raise UserError(f"evidence: {told.get(figure, figure)} of {title} is not available")


def of_images(name: str, facts: Mapping[str, Any]) -> Iterator[Side]:
    """Images from maps, and images drawn together with them."""
    claimed, fid = name in CLAIMED, f"{MOST_FID:g} times the base"
    times, much = (2.0, "twice") if facts["higher"] else (0.5, "half of")
    given, both = "image from map against", "drawn together against"
    next_one = f"{both} {much} the next one's of its class"
    yield Side(claimed, f"{given} the late constraint", "fidelity", "given", "lacon")
    yield Side(claimed, f"{given} {fid}", "fid", "given", "base", MOST_FID)
    yield Side(claimed, next_one, "fidelity", "joint", "shuffled", times)
    yield Side(False, f"{given} the map as channels", "fidelity", "given", "channels")
    yield Side(False, f"{given} the map as channels", "fid", "given", "channels")
    yield Side(False, f"{given} {much} another's map", "first", "given", "given", times)
    yield Side(False, f"{given} {fid}", "fid_infinity", "given", "base", MOST_FID)
    yield Side(False, f"{both} {fid}", "fid", "joint", "base", MOST_FID)


def of_both(name: str, pair: Sequence[str]) -> Iterator[Side]:
    """Images from two maps."""
    if name not in pair:
        return
    (alone,) = [one for one in pair if one != name]
    both = "image from both against"
    yield Side(True, f"{both} {alone} alone", "fidelity", "pair", "other")
    yield Side(False, f"{both} {name} alone", "fidelity", "pair", "given")
    if name == pair[0]:  # they are the same images for either
        yield Side(False, f"{both} {MOST_FID:g} times the base", "fid", "pair", "base", MOST_FID)


def of_depth(name: str) -> Iterator[Side]:
    """Depth from pictures."""
    if name != "depth":
        return
    half, every = "map from picture, no class told, against half of the best", "abs_rel"
    told = "map from picture, class told, against the best fixed map of its class"
    each = f"{half} constant depth of each picture"
    yield Side(True, f"{half} fixed map", every, "untold", "fixed", 0.5)
    yield Side(True, f"{half} constant depth", every, "untold", "constant", 0.5)
    yield Side(False, told, every, "maps", "fixed_class")
    yield Side(False, each, every, "untold", "constants", 0.5)


def values(sweeps: Sequence[Sweep], condition: str, row: str, figure: str) -> list[float] | None:
    """See ``values_of``; None too where there is no such row."""
    place, every = {"condition": condition, "row": row}, []
    for sweep in sweeps:
        found = [one["seeds"] for one in sweep["rows"] if place.items() <= one.items()]
        every.append([one[figure] for seeds in found for one in seeds] or [None])
    return values_of(every)

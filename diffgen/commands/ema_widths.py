"""Evaluations of several averages of one run, side by side."""

import math
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from diffgen.metrics.comparison import verdict
from diffgen.metrics.shown import NAMES, shown
from diffgen.page.markdown import rows

UNKNOWN = (-math.inf, math.inf)


def width_table(saved: Mapping[Path, dict[str, Any]]) -> Iterator[str]:
    """A row a width, the figures with their intervals, and which has the lowest FID.

    Args:
        saved: two evaluations or more by their files, as JSON holds them.
    """
    contents = list(saved.values())
    names = [name for name in NAMES if any(one["scores"][name] is not None for one in contents)]
    yield ""
    yield from rows(
        ["width", "images seen", "expected error", *(NAMES[name] for name in names)],
        [[*_which(one["average"]), *(_figure(one, name) for name in names)] for one in contents],
    )
    yield ""
    yield from _lowest(contents)
    yield f"again with: diffgen compare {' '.join(shlex.quote(str(file)) for file in saved)}"


def _which(average: dict[str, Any]) -> list[str]:
    error = average["expected_error"]
    return [
        f"{average['width']:g}",
        f"{average['images']:,}",
        f"{error:.2%}" if error else "tracked",
    ]


def _figure(content: dict[str, Any], name: str) -> str:
    value = content["scores"][name]
    return "-" if value is None else shown(name, value, content["intervals"].get(name))


def _lowest(contents: list[dict[str, Any]]) -> Iterator[str]:
    """The sentence on the lowest FID, and which of the others it is not shown to be better than."""
    known = [one for one in contents if one["scores"]["fid"] is not None]
    if len(known) < 2:
        return
    best = min(known, key=lambda one: one["scores"]["fid"])
    others = [one for one in known if one is not best]
    near = [one for one in others if verdict(_interval(best), _interval(one)) != "lower"]
    width = f"{best['average']['width']:g}"
    if not near:
        yield f"lowest FID: width {width}; its interval lies below every other"
        return
    named = ", ".join(f"{one['average']['width']:g}" for one in near)
    yield (
        f"lowest FID: width {width}, but its interval overlaps that of {named}: inconclusive; more "
        "images or seeds may tell"
    )


def _interval(content: dict[str, Any]) -> tuple[float, float]:
    found = content["intervals"].get("fid")
    return UNKNOWN if found is None else (found[0], found[1])

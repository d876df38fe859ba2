"""The figures of all numbers of training images as Markdown."""

from collections.abc import Iterator, Mapping
from typing import Any

Figures = Mapping[int, Mapping[str, Any]]
"""By the number of training images."""


def markdown(found: Figures) -> Iterator[str]:
    """Two tables: a line a number of training images, and a line for each of its noise levels."""
    yield (
        "| N | agreement | to own training image | control | memorised | held-out memorised "
        "| linear agreement |"
    )
    yield "|---|" + "---|" * 6
    for count, one in found.items():
        cells = [
            *(_spread(one[name]) for name in ("agreement", "nearest_own", "control")),
            *(_share(one[name]) for name in ("memorised", "memorised_held_out")),
            _spread(one["linear_agreement"]),
        ]
        yield f"| {count} | {' | '.join(cells)} |"
    yield ""
    yield (
        "| N | sigma | noisy | train | held out | linear train | linear held out "
        "| dimension | estimated | linear | asymmetry | affine residual |"
    )
    yield "|---|" + "---|" * 11
    for count, one in found.items():
        for level in one["levels"]:
            yield f"| {count} | {' | '.join(_level_cells(level))} |"


def _level_cells(level: Mapping[str, Any]) -> Iterator[str]:
    yield f"{level['sigma']:g}"
    for name in ("noisy", "train", "held_out", "linear_train", "linear_held_out"):
        yield _number(level[name], ".2f")
    dimension = level["dimension"]
    yield _number(dimension["exact"], ".1f")
    yield f"{dimension['hutchinson']:.1f} ± {dimension['hutchinson_error']:.1f}"
    yield _number(level["linear_dimension"], ".1f")
    yield _number(dimension["asymmetry"], ".2f")
    yield _number(dimension["affine_residual"], ".2f")


def _spread(values: Mapping[str, float] | None) -> str:
    if values is None:
        return "-"
    return f"{values['median']:.3f} [{values['low']:.3f}, {values['high']:.3f}]"


def _share(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "-"
    low, high = found["interval"]
    return f"{found['share']:.1%} [{low:.1%}, {high:.1%}]"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)

"""The figures of all numbers of training images as Markdown."""

from collections.abc import Iterator, Mapping
from typing import Any

Figures = Mapping[int, Mapping[str, Any]]
"""By the number of training images."""


def markdown(found: Figures) -> Iterator[str]:
    """Three tables: a line a number of training images, and two with one for each noise level."""
    yield (
        "| N | agreement | to own training image | control | memorised by a | by b "
        "| held-out memorised | linear agreement |"
    )
    yield "|---|" + "---|" * 7
    for count, one in found.items():
        cells = [
            *(_spread(one[name]) for name in ("agreement", "nearest_own", "control")),
            *(_share(one["memorised"][which]) for which in "ab"),
            _share(one["memorised_held_out"]),
            _spread(one["linear_agreement"]),
        ]
        yield f"| {count} | {' | '.join(cells)} |"
    yield ""
    yield "PSNR [dB]:"
    yield ""
    yield (
        "| N | sigma | noisy | train | held out | gap | linear train | linear held out "
        "| linear gap |"
    )
    yield "|---|" + "---|" * 8
    for count, level in _levels(found):
        names = ("train", "held_out", "gap", "linear_train", "linear_held_out", "linear_gap")
        cells = [f"{level['sigma']:g}", f"{level['noisy']:.2f}"]
        yield f"| {count} | {' | '.join([*cells, *(_psnr(level[name]) for name in names)])} |"
    yield ""
    yield "| N | sigma | dimension | estimated | linear | asymmetry | affine residual |"
    yield "|---|" + "---|" * 6
    for count, level in _levels(found):
        yield f"| {count} | {level['sigma']:g} | {' | '.join(_dimension_cells(level))} |"


def _levels(found: Figures) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for count, one in found.items():
        for level in one["levels"]:
            yield count, level


def _dimension_cells(level: Mapping[str, Any]) -> Iterator[str]:
    dimension = level["dimension"]
    for name in ("exact", "estimated"):
        error = dimension[f"{name}_error"]
        yield _number(dimension[name], ".1f") + ("" if error is None else f" ± {error:.1f}")
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


def _psnr(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "-"
    low, high = found["interval"]
    return f"{found['psnr']:.2f} [{low:.2f}, {high:.2f}]"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)

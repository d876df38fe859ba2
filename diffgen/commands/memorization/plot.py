"""The plot of memorisation against the number of training images: four panels."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from diffgen.commands.memorization.table import Figures

ALIKE = {
    "agreement": "both models, same noise",
    "nearest_own": "sample, nearest training image",
    "control": "both training sets, nearest",
    "linear_agreement": "both linear denoisers, same noise",
}
Value = Callable[[Mapping[str, Any]], tuple[float, float]]
"""A figure of a noise level, and how far its bar reaches to either side."""
Shares = Mapping[int, Mapping[str, Any] | None]


def draw_plot(found: Figures) -> Callable[[Path], object]:
    """A function that saves the plot as a PNG.

    Bands hold 90 % of the images; bars are 95 % intervals of shares and gaps, and standard errors
    of dimensions over images. Dashed lines are the linear denoiser's.
    """
    from matplotlib.figure import Figure  # slow to import, and needed at the end alone

    figure = Figure(figsize=(10, 7.4), layout="constrained")
    alike, shares, gap, dimension = figure.subplots(2, 2).flat
    for name, label in ALIKE.items():
        _band(alike, found, name, label)
    alike.set_ylabel("correlation")
    for which in "ab":
        of_model = {count: one["memorised"][which] for count, one in found.items()}
        _shares(shares, of_model, f"samples of {which}")
    held_out = {count: one["memorised_held_out"] for count, one in found.items()}
    _shares(shares, held_out, "held-out images")
    shares.set_ylabel("share memorised")
    shares.set_ylim(-0.03, 1.03)
    _levels(gap, found, _gap, _linear_gap)
    gap.set_ylabel("PSNR, train less held out [dB]")
    _levels(dimension, found, _dimension, _linear_dimension)
    dimension.set_ylabel("effective dimension")
    # Logarithmic above 1: a network's may be negative, and of one image it is 0.
    dimension.set_yscale("symlog", linthresh=1, linscale=0.3)
    for axes in (alike, shares, gap, dimension):
        axes.set_xscale("log")
        axes.set_xticks(list(found), [str(count) for count in found])
        axes.minorticks_off()
        axes.set_xlabel("training images N")
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    return lambda path: figure.savefig(path, dpi=110, format="png")


def _band(axes: Any, found: Figures, name: str, label: str) -> None:
    known = {count: one[name] for count, one in found.items() if one[name] is not None}
    if not known:
        return
    counts = list(known)
    low, median, high = ([v[key] for v in known.values()] for key in ("low", "median", "high"))
    (line,) = axes.plot(counts, median, marker="o", markersize=4, label=label)
    axes.fill_between(counts, low, high, alpha=0.15, color=line.get_color(), linewidth=0)


def _shares(axes: Any, found: Shares, label: str) -> None:
    known = {count: one for count, one in found.items() if one is not None}
    shares = [one["share"] for one in known.values()]
    bounds = [one["interval"] for one in known.values()]  # of 0 and 1 they are off by rounding
    lower = [max(0.0, share - low) for share, (low, _) in zip(shares, bounds, strict=True)]
    upper = [max(0.0, high - share) for share, (_, high) in zip(shares, bounds, strict=True)]
    axes.errorbar(list(known), shares, yerr=(lower, upper), marker="o", markersize=4, label=label)


def _levels(axes: Any, found: Figures, value: Value, linear: Value) -> None:
    """A line a noise level, along the numbers of training images."""
    counts = list(found)
    for number, first in enumerate(next(iter(found.values()))["levels"]):
        levels = [one["levels"][number] for one in found.values()]
        label = f"sigma {first['sigma']:g}"
        middle, bars = zip(*map(value, levels), strict=True)
        line = axes.errorbar(counts, middle, yerr=bars, marker="o", markersize=4, label=label)[0]
        baseline = [linear(level)[0] for level in levels]
        axes.plot(counts, baseline, linestyle="--", linewidth=1, color=line.get_color())


def _gap(level: Mapping[str, Any]) -> tuple[float, float]:
    return _psnr(level["gap"])


def _linear_gap(level: Mapping[str, Any]) -> tuple[float, float]:
    return _psnr(level["linear_gap"])


def _psnr(found: Mapping[str, Any] | None) -> tuple[float, float]:
    """It and half its interval; what is not there is not drawn."""
    if found is None:
        return math.nan, 0.0
    return found["psnr"], found["interval"][1] - found["psnr"]


def _linear_dimension(level: Mapping[str, Any]) -> tuple[float, float]:
    value = level["linear_dimension"]
    return math.nan if value is None else value, 0.0


def _dimension(level: Mapping[str, Any]) -> tuple[float, float]:
    """The exact one where there is one, and its standard error where it is known."""
    dimension = level["dimension"]
    name = "estimated" if dimension["exact"] is None else "exact"
    return dimension[name], dimension[f"{name}_error"] or 0.0

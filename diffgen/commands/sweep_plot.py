"""The plot of a guidance sweep: four figures against the scale, a line a rule."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

LEGEND = 48
"""Longest name of a rule in the legend [characters]."""
MARKERS = "os^Dv*"
PANELS = {"fid": "FID", "precision": "precision", "recall": "recall", "saturation": "saturation"}


class Line(NamedTuple):
    """One rule."""

    scales: list[float]
    figures: dict[str, list[dict[str, Any] | None]]
    """By name, one a scale: mean and interval; None: not available."""


def draw_plot(
    lines: Mapping[str, Line], real: Mapping[str, float | None]
) -> Callable[[Path], object]:
    """A function that saves the plot as a PNG.

    ``real``: what real images get, a dashed line each; bars are intervals over seeds.
    """
    from matplotlib.figure import Figure  # slow to import, and needed at the end alone

    figure = Figure(figsize=(9, 6.4), layout="constrained")
    for axes, (name, label) in zip(figure.subplots(2, 2).flat, PANELS.items(), strict=True):
        for number, (title, line) in enumerate(lines.items()):
            _draw_line(axes, number, title, line, name)
        level = real[name]
        if level is not None:
            axes.axhline(level, color="grey", linestyle="--", linewidth=1, label="real")
        axes.set_xscale("symlog" if min(min(one.scales) for one in lines.values()) == 0 else "log")
        every = sorted({scale for line in lines.values() for scale in line.scales})
        axes.set_xticks(every, [f"{scale:g}" for scale in every])
        axes.minorticks_off()
        axes.set_xlabel("guidance scale")
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
        low, high = axes.get_ylim()  # intervals of few seeds reach beyond what can be
        axes.set_ylim(max(low, 0), high if name == "fid" else min(high, 1.02))
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2 if len(labels) > 3 else 4)
    return lambda path: figure.savefig(path, dpi=110, format="png")


def _draw_line(axes: Any, number: int, title: str, line: Line, name: str) -> None:
    known = [
        (scale, found)
        for scale, found in zip(line.scales, line.figures[name], strict=True)
        if found is not None
    ]
    if not known:
        return
    scales, means = [s for s, _ in known], [found["mean"] for _, found in known]
    bars = [found["interval"] or (found["mean"],) * 2 for _, found in known]
    lower = [mean - low for mean, (low, _) in zip(means, bars, strict=True)]
    upper = [high - mean for mean, (_, high) in zip(means, bars, strict=True)]
    short = title if len(title) <= LEGEND else f"{title[: LEGEND - 3]}..."
    axes.errorbar(
        scales,
        means,
        yerr=(lower, upper),
        color=f"C{number % 10}",
        marker=MARKERS[number // 10 % len(MARKERS)],
        linestyle="-" if number < 10 else "--",
        capsize=3,
        label=" " + short.replace("$", r"\$"),  # one with _ in front would be left out
    )

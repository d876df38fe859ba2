"""The plot of a guidance sweep, four figures against the scale, a line a rule; parts of others."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from diffgen.commands.sweeps import Figure

LEGEND = 48
"""Longest name of a rule in the legend [characters]."""
MARKERS = "os^Dv*"
PANELS = {"fid": "FID", "precision": "precision", "recall": "recall", "saturation": "saturation"}


class Line(NamedTuple):
    """One rule."""

    scales: list[float]
    figures: dict[str, list[Figure | None]]
    """By name, one a scale: mean and interval; None: not available."""


def draw_plot(
    lines: Mapping[str, Line], real: Mapping[str, float | None]
) -> Callable[[Path], object]:
    """A function that saves the plot as a PNG.

    ``real``: what real images get, a dashed line each; bars are intervals over seeds.
    """
    from matplotlib.figure import Figure as Sheet  # slow to import, and needed at the end alone

    figure = Sheet(figsize=(9, 6.4), layout="constrained")
    every = sorted({scale for line in lines.values() for scale in line.scales})
    for axes, (name, label) in zip(figure.subplots(2, 2).flat, PANELS.items(), strict=True):
        for number, (title, line) in enumerate(lines.items()):
            short = title if len(title) <= LEGEND else f"{title[: LEGEND - 3]}..."
            error_bars(
                axes,
                dict(zip(line.scales, line.figures[name], strict=True)),
                color=f"C{number % 10}",
                marker=MARKERS[number // 10 % len(MARKERS)],
                linestyle="-" if number < 10 else "--",
                label=" " + short.replace("$", r"\$"),  # one with _ in front would be left out
            )
        level(axes, real[name], "grey", "real")
        finish(axes, every, "guidance scale", label)
        if name != "fid":  # intervals of few seeds reach beyond what can be
            axes.set_ylim(top=min(axes.get_ylim()[1], 1.02))
    return saved(figure, columns=2 if len(lines) > 2 else 4)


def error_bars(axes: Any, points: Mapping[float, Figure | None], **style: Any) -> None:
    """Figures by scale, those that are available, with their intervals."""
    known = {scale: found for scale, found in points.items() if found is not None}
    means = [found["mean"] for found in known.values()]
    bars = [found["interval"] or (found["mean"],) * 2 for found in known.values()]
    lower = [mean - low for mean, (low, _) in zip(means, bars, strict=True)]
    upper = [high - mean for mean, (_, high) in zip(means, bars, strict=True)]
    if known:
        axes.errorbar(list(known), means, yerr=(lower, upper), capsize=3, **style)


def level(axes: Any, value: float | None, colour: str, label: str) -> None:
    """A dashed line across."""
    if value is not None:
        axes.axhline(value, color=colour, linestyle="--", linewidth=1, label=label)


def finish(axes: Any, scales: Sequence[float], along: str, up: str) -> None:
    """What the axes show: ``scales`` and their name, and the figure's."""
    axes.set_xscale("symlog" if min(scales) == 0 else "log")
    axes.set_xticks(scales, [f"{scale:g}" for scale in scales])
    axes.minorticks_off()
    axes.set_xlabel(along)
    axes.set_ylabel(up)
    axes.grid(alpha=0.3)
    axes.set_ylim(bottom=max(axes.get_ylim()[0], 0))


def saved(figure: Any, columns: int) -> Callable[[Path], object]:
    """A function that saves ``figure``, with the legend of its first panel, as a PNG."""
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=columns)
    return lambda path: figure.savefig(path, dpi=110, format="png")

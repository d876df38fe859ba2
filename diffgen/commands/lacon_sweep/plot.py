"""The plot of a sweep: fidelity and FID against the scale, a column a condition."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Points = Mapping[float, Mapping[str, Any]]
"""Figures by scale."""


def draw_plot(sweep: Mapping[str, Any]) -> Callable[[Path], object]:
    """A function that saves the plot as a PNG.

    Lines are numbers of steps; dashed lines in their colour are unguided, dotted ones the control,
    the grey one is what real pictures get. Bars are the table's intervals.
    """
    from matplotlib.figure import Figure  # slow to import, and needed at the end alone

    names = list(sweep["conditions"])
    figure = Figure(figsize=(max(6.5, 3.3 * len(names)), 6.4), layout="constrained")
    axes = figure.subplots(2, len(names), squeeze=False)
    for column, name in enumerate(names):
        of_condition = [cell for cell in sweep["cells"] if cell["condition"] == name]
        for row, what in enumerate(("fidelity", "fid")):
            panel = axes[row][column]
            for number, steps in enumerate(sweep["steps"]):
                points = {c["scale"]: c["figures"] for c in of_condition if c["steps"] == steps}
                _draw_steps(panel, points, what, f"C{number}", f"{steps} steps")
            _level(panel, sweep["real"][name][what], "grey", "real pictures")
            _finish(panel, sweep["scales"][1:])
        fidelity = sweep["conditions"][name]["figure"].replace("_", " ")
        axes[0][column].set_title(name.replace("$", r"\$"))
        axes[0][column].set_ylabel(fidelity)
        axes[1][column].set_ylabel("FID")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=max(2, len(names)))
    return lambda path: figure.savefig(path, dpi=110, format="png")


def _draw_steps(axes: Any, points: Points, what: str, colour: str, label: str) -> None:
    """One number of steps: guided, unguided, and where there is one the control."""
    _level(axes, points[0.0][what], colour, f"{label}, unguided")
    guided = {scale: one[what] for scale, one in points.items() if scale and one[what]}
    _line(axes, guided, color=colour, marker="o", label=label)
    if what == "fidelity":
        control = {scale: one["control"] for scale, one in points.items() if scale}
        style = {"marker": "x", "linestyle": ":", "label": f"{label}, another's map"}
        _line(axes, control, color=colour, **style)


def _line(axes: Any, points: Mapping[float, Mapping[str, Any]], **style: Any) -> None:
    means = [one["mean"] for one in points.values()]
    bars = [one["interval"] or (one["mean"],) * 2 for one in points.values()]
    lower = [mean - low for mean, (low, _) in zip(means, bars, strict=True)]
    upper = [high - mean for mean, (_, high) in zip(means, bars, strict=True)]
    axes.errorbar(list(points), means, yerr=(lower, upper), capsize=3, **style)


def _level(axes: Any, figure: Mapping[str, Any] | None, colour: str, label: str) -> None:
    if figure is not None:
        axes.axhline(figure["mean"], color=colour, linestyle="--", linewidth=1, label=label)


def _finish(axes: Any, scales: list[float]) -> None:
    axes.set_xscale("log")
    axes.set_xticks(scales, [f"{scale:g}" for scale in scales])
    axes.minorticks_off()
    axes.set_xlabel("scale of the constraint")
    axes.grid(alpha=0.3)
    axes.set_ylim(bottom=max(0.0, axes.get_ylim()[0]))  # intervals of few seeds reach below

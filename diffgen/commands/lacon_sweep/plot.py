"""The plot of a sweep: fidelity and FID against the scale, a column a condition."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from diffgen.commands.sweep_plot import error_bars, finish, level, saved


def draw_plot(sweep: Mapping[str, Any]) -> Callable[[Path], object]:
    """A function that saves the plot as a PNG.

    Lines are numbers of steps; dashed lines in their colour are unguided, dotted ones the control,
    the grey one is what real pictures get. Bars are the table's intervals.
    """
    from matplotlib.figure import Figure  # slow to import, and needed at the end alone

    names, again = list(sweep["conditions"]), sweep["again"]
    figure = Figure(figsize=(max(6.5, 3.3 * len(names)), 6.4), layout="constrained")
    for name, panels in zip(names, figure.subplots(2, len(names), squeeze=False).T, strict=True):
        measure = sweep["conditions"][name]["figure"].replace("_", " ")
        titles = ("fidelity", measure), ("fid", "FID")
        for axes, (what, label) in zip(panels, titles, strict=True):
            for number, steps in enumerate(sweep["steps"]):
                colour, told = f"C{number}", f"{steps} steps"
                found = {
                    cell["scale"]: cell["figures"]
                    for cell in sweep["cells"]
                    if (cell["condition"], cell["steps"]) == (name, steps)
                }
                free = found.pop(0.0)[what]
                level(axes, free and free["mean"], colour, f"{told}, unguided")
                points = {scale: one[what] for scale, one in found.items()}
                error_bars(axes, points, color=colour, marker="o", label=told)
                if what == "fidelity":
                    points = {scale: one["control"] for scale, one in found.items()}
                    control = f"{told}, another's map (first {again})"
                    style = {"marker": "x", "linestyle": ":", "label": control}
                    error_bars(axes, points, color=colour, **style)
            real = sweep["real"][name][what]
            level(axes, real and real["mean"], "grey", "real pictures")
            finish(axes, sweep["scales"][1:], "scale of the constraint", label)
        panels[0].set_title(name.replace("$", r"\$"))
    return saved(figure, columns=max(2, len(names)))

"""Plots as SVG that stands inside a page."""

import io
from collections.abc import Mapping
from typing import Any

INK = "#010203"
"""Becomes the page's own text colour, whether that is dark or light."""
INKED = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")
DATA, ESTIMATE = "#2f86d2", "#d9622b"  # readable on white and on black


def distance_plot(infinity: Mapping[str, Any], name: str) -> str:
    """The Fréchet distance over 1 / N, its line, and the value at infinitely many images.

    Args:
        infinity: ``value`` and ``interval`` of the extrapolation, and ``line`` with intercept,
            slope, r2, sizes and values.
        name: tells the parts of this drawing from those of others in the page.
    """
    import matplotlib as mpl  # slow to import, and needed here alone
    from matplotlib.figure import Figure

    line, value = infinity["line"], infinity["value"]
    inverse = [1 / size for size in line["sizes"]]
    style: dict[Any, Any] = dict.fromkeys(INKED, INK) | {
        "svg.fonttype": "none",  # words that a reader's font and a screen reader can take
        "svg.hashsalt": name,
    }
    with mpl.rc_context(style):
        figure = Figure(figsize=(6.4, 3.6), layout="constrained")
        axes = figure.subplots()
        ends = [0.0, max(inverse)]
        axes.plot(inverse, line["values"], "o", color=DATA, markersize=4, label="of N images")
        fitted = [line["intercept"] + line["slope"] * x for x in ends]
        axes.plot(ends, fitted, color=DATA, linewidth=1, label=f"their line, r² = {line['r2']:.3f}")
        bars = [[value - infinity["interval"][0]], [infinity["interval"][1] - value]]
        label = "at infinity (jackknife), 95 %"
        axes.errorbar([0], [value], yerr=bars, fmt="s", color=ESTIMATE, capsize=4, label=label)
        sizes = [line["sizes"][-1], line["sizes"][len(inverse) // 3], line["sizes"][0]]
        ticks = [0, *(1 / size for size in sizes)]
        axes.set_xticks(ticks, ["∞", *(f"{size:,}" for size in sizes)])
        axes.set_xlabel("images N, at 1 / N")
        axes.set_ylabel("FID")
        axes.grid(alpha=0.25)
        axes.legend(frameon=False, fontsize="small")
        for part in (figure.patch, axes.patch):
            part.set_alpha(0)
        return _svg(figure, "FID against one over the number of images, with a line through it")


def _svg(figure: Any, label: str) -> str:
    """The drawing without the head and the metadata of a file of its own."""
    file = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(file, format="svg", metadata=nothing)
    text = file.getvalue()
    drawing = text[text.index("<svg ") + len("<svg ") :].replace(INK, "currentColor")
    return f'<svg role="img" aria-label="{label}" {drawing}'

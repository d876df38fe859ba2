"""The plot of what an aligner reads: R^2 against time."""

from collections.abc import Callable, Mapping
from pathlib import Path


def draw_r2(r2: Mapping[str, float], until: float, title: str) -> Callable[[Path], object]:
    """A function that saves the plot as a PNG.

    Args:
        r2: by time as text.
        until: time above which constraints act, which is shaded.
        title: above the axes.
    """
    from matplotlib.figure import Figure  # slow to import, and needed at the end alone

    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.plot([float(t) for t in r2], list(r2.values()), "o-", markersize=4)
    axes.axvspan(until, 1, color="C0", alpha=0.12, linewidth=0, label=f"acts at t > {until:g}")
    axes.set_xlim(0, 1)
    axes.set_ylim(min(0.0, *r2.values()), 1)
    axes.set_xlabel("time t (1: noise, 0: picture)")
    axes.set_ylabel("R²")
    axes.set_title(title)
    axes.grid(alpha=0.3)
    axes.legend()
    return lambda path: figure.savefig(path, dpi=110, format="png")

"""The table of a sweep as Markdown: a line a condition, number of steps and scale."""

from collections.abc import Iterator, Mapping
from typing import Any

from diffgen.commands.lacon_sweep.figures import FIGURES, Figure, Figures

TITLES = {
    "fid": "FID",
    "class_accuracy": "class accuracy",
    "seconds": "seconds an image",
    "times": "times unguided",
}
Places = Mapping[tuple[str, int, float], Figures]
"""By condition, steps and scale."""


def markdown(found: Places, real: Mapping[str, Figures], sweep: Mapping[str, Any]) -> Iterator[str]:
    """The lines of the table, and below it what the columns mean.

    Args:
        found: figures of every place.
        real: what real pictures get, by condition.
        sweep: what sweep.json says of the conditions, the counts and the intervals.
    """
    titles = [TITLES.get(name, name) for name in FIGURES]
    yield f"| condition | steps | scale | {' | '.join(titles)} |"
    yield "|---|---|---|" + "---|" * len(titles)
    for condition, ceiling in real.items():
        for (name, steps, scale), figures in found.items():
            if name == condition:
                at = f"{scale:g}" if scale else "unguided"
                yield f"| {told(name)} | {steps} | {at} | {cells(figures)} |"
        yield f"| {told(condition)} | | real | {cells(ceiling)} |"
    yield ""
    for condition, facts in sweep["conditions"].items():
        better = "higher" if facts["higher"] else "lower"
        yield f"{told(condition)}: {facts['figure']}, {better} is better, by {facts['read_by']}."
    yield ""
    yield (
        f"Fidelity is of {sweep['counts']['images']} images, each against the map of its own "
        f"held-out picture; control and variation of the first {sweep['again']}: control against "
        "the same maps, but drawn under that of the next picture; variation is the RMS difference "
        "from an image of the same map and class and other noise, as a share of the range. Seconds "
        "are the median over batches; times unguided is of the same images, drawn by turns."
    )
    yield f"Intervals: {sweep['intervals']}. FID is to other real pictures than those of the maps."


def told(name: str) -> str:
    """A name, fit for a table."""
    return name.replace("|", "/")


def cells(figures: Figures) -> str:
    """The cells of a line."""
    return " | ".join(cell(figures[name]) for name in FIGURES)


def cell(figure: Figure | None) -> str:
    """A mean, and half of its interval where it has one."""
    if figure is None:
        return "-"
    mean = f"{max(figure['mean'], 0):.3g}"
    if figure["interval"] is None:
        return mean
    low, high = figure["interval"]
    return f"{mean} ± {(high - low) / 2:.2g}"

"""What sweeps share: figures with their intervals, and the files they leave."""

import math
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from diffgen.files import write_file, write_json
from diffgen.metrics.intervals import Interval, mean_estimate
from diffgen.sampling.sheet import Row, contact_sheet

Figure: TypeAlias = dict[str, Any]
"""``mean``, and ``interval``, 95 %, or None."""
Figures: TypeAlias = dict[str, Figure | None]
"""By name; None: not available."""


def figure(value: float | None, interval: Interval | None = None) -> Figure | None:
    """A figure as JSON holds it; None: it is not available."""
    return None if value is None else {"mean": value, "interval": interval}


def over(values: Sequence[float | None]) -> Figure | None:
    """Mean and interval of independent values, by Student's t; None where one is not available."""
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return None
    found = mean_estimate(known)
    return figure(found.value, found.interval)


def over_seeds(of_seeds: Sequence[Figures]) -> Figures:
    """Each figure's mean over seeds, with the interval over them; of one seed, as it is."""
    if len(of_seeds) == 1:
        return of_seeds[0]
    found: Figures = {}
    for name in of_seeds[0]:
        known = [one[name] for one in of_seeds]
        found[name] = over([one["mean"] if one else None for one in known])
    return found


def mean(values: Sequence[float]) -> float:
    """Of one value or more."""
    return sum(values) / len(values)


def shown(found: Figure | None, least: float = -math.inf) -> str:
    """A mean, no smaller than ``least``, and the longer side of its interval where it has one."""
    if found is None:
        return "-"
    mean = found["mean"]
    text = f"{max(mean, least):.3g}"
    if found["interval"] is None:
        return text
    low, high = found["interval"]
    return f"{text} ± {max(high - mean, mean - low):.2g}"


def write_sweep(
    out: Path,
    content: dict[str, Any],
    lines: Iterable[str],
    plot: Callable[[Path], object] | None,
    rows: Iterable[Row],
    name: str = "sweep",
) -> None:
    """sweep.json, sweep.md, plot.png and grid.png in ``out``; the table is printed too.

    Args:
        out: the folder; what it holds of the real images goes.
        content: of sweep.json.
        lines: of the table, Markdown.
        plot: saves the plot; None: there is none.
        rows: of the picture grid.
        name: of the first two.
    """
    write_json(out / f"{name}.json", content)
    text = "\n".join(lines)
    write_file(out / f"{name}.md", lambda path: path.write_text(text + "\n", encoding="utf-8"))
    if plot is not None:
        write_file(out / "plot.png", plot)
    write_file(out / "grid.png", contact_sheet(list(rows), scale=1).save)
    shutil.rmtree(real_parts(out), ignore_errors=True)
    pictures = "grid.png" if plot is None else "plot.png and grid.png"
    print(f"\n{text}\n\nsaved as {out}/{name}.json, {name}.md, {pictures}")


def real_parts(out: Path) -> Path:
    """The folder for what is seen of the real images, until the sweep is done."""
    return out / "cells" / "real.parts"

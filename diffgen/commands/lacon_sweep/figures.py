"""The figures of a cell, and their means over seeds."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from diffgen.metrics.intervals import mean_estimate

SCORES = ("fid", "precision", "recall", "class_accuracy")
FIGURES = ("fidelity", "control", *SCORES, "variation", "seconds", "times")
MOST_VALUES = 1024
"""More values than these are not kept one by one."""
Figure: TypeAlias = dict[str, Any]
"""Mean, and 95 % interval or None."""
Figures: TypeAlias = dict[str, Figure | None]
"""By name; None: not available."""


def over_images(values: Sequence[float]) -> Figure:
    """A figure from one value an image, with these values where they are few."""
    kept = [round(value, 6) for value in values] if len(values) <= MOST_VALUES else None
    return {**averaged(values), "count": len(values), "values": kept}


def averaged(values: Sequence[float]) -> Figure:
    """Mean and interval of independent values."""
    found = mean_estimate(values)
    return {"mean": found.value, "interval": found.interval}


def cell_figures(content: Mapping[str, Any], name: str) -> Figures:
    """The figures of a cell, by its content, for the condition ``name``."""
    measured = content["measured"]
    figures: Figures = {
        "fidelity": brief(measured["fidelity"][name]),
        "control": brief(measured["control"].get(name)),
        "variation": brief(measured["variation"]),
        "seconds": {"mean": measured["seconds"], "interval": None},
        "times": {"mean": measured["times"], "interval": None},
    }
    for score in SCORES:
        value = content["scores"].get(score)
        interval = content["intervals"].get(score)
        figures[score] = None if value is None else {"mean": value, "interval": interval}
    return {figure: figures[figure] for figure in FIGURES}


def brief(figure: Mapping[str, Any] | None) -> Figure | None:
    """Mean and interval alone."""
    return None if figure is None else {name: figure[name] for name in ("mean", "interval")}


def over_seeds(of_seeds: Sequence[Figures]) -> Figures:
    """Each figure's mean over seeds, with the interval over them; of one seed, as it is."""
    if len(of_seeds) == 1:
        return of_seeds[0]
    means: Figures = {}
    for name in FIGURES:
        known = [figure["mean"] for one in of_seeds if (figure := one[name]) is not None]
        means[name] = averaged(known) if len(known) == len(of_seeds) else None
    return means


def real_figures(content: Mapping[str, Any], name: str) -> Figures:
    """What real pictures get for the condition ``name``, and by the scores against others."""
    floor = content["floor"]["scores"] if content["floor"] else {}
    scores = {score: floor.get(score) for score in SCORES}
    figures: Figures = dict.fromkeys(FIGURES)
    figures["fidelity"] = brief(content["measured"]["real"][name])
    for score, value in scores.items():
        figures[score] = None if value is None else {"mean": value, "interval": None}
    return figures

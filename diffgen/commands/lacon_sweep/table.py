"""The figures of a sweep, and their table as Markdown: a line a condition, steps and scale."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from diffgen.commands.sweeps import Figures, figure, shown

SCORES = ("fid", "fid_infinity", "precision", "recall", "class_accuracy")
FIGURES = ("fidelity", "first", "control", *SCORES, "variation", "seconds", "times")
TITLES = {
    "first": "first {again}",
    "control": "control, first {again}",
    "fid": "FID",
    "fid_infinity": "FID at infinity",
    "class_accuracy": "class accuracy",
    "seconds": "seconds an image",
    "times": "times unguided",
}


def cell_figures(content: Mapping[str, Any], name: str) -> Figures:
    """The figures of a cell, by its content, for the condition ``name``."""
    measured, scores, intervals = (content[part] for part in ("measured", "scores", "intervals"))
    return {
        **{what: measured[what].get(name) for what in ("fidelity", "first", "control")},
        **{score: figure(scores.get(score), intervals.get(score)) for score in SCORES},
        **{what: measured[what] for what in ("variation", "seconds", "times")},
    }


def real_figures(content: Mapping[str, Any], name: str) -> Figures:
    """What real pictures get for the condition ``name``, and by the scores against others."""
    floor = content["floor"]["scores"] if content["floor"] else {}
    found = {**content["measured"]["real"][name], **{s: figure(floor.get(s)) for s in SCORES}}
    return {what: found.get(what) for what in FIGURES}


def markdown(sweep: Mapping[str, Any]) -> Iterator[str]:
    """The lines of the table, and below it what the columns mean; ``sweep``: of sweep.json."""
    again = sweep["again"]
    titles = [TITLES.get(name, name).format(again=again) for name in FIGURES]
    yield f"| condition | steps | scale | {' | '.join(titles)} |"
    yield "|---|---|---|" + "---|" * len(titles)
    for condition, ceiling in sweep["real"].items():
        told = condition.replace("|", "/")
        for one in sweep["cells"]:
            if one["condition"] == condition:
                at = f"{one['scale']:g}" if one["scale"] else "unguided"
                yield f"| {told} | {one['steps']} | {at} | {cells(one['figures'])} |"
        yield f"| {told} | | real | {cells(ceiling)} |"
    yield ""
    for condition, facts in sweep["conditions"].items():
        better = "higher" if facts["higher"] else "lower"
        yield f"{condition}: {facts['figure']}, {better} is better, by {facts['read_by']}."
    yield ""
    pictures = "a held-out picture" if sweep["held_out"] else "a picture the model was trained on"
    yield (
        f"Fidelity is of {sweep['counts']['images']} images, each against the map of {pictures}; "
        f"beside it of the first {again} alone, as control: the same against the same maps, but "
        "drawn under that of the next picture. Variation is the RMS difference of these from "
        "images of the same map and class and other noise, as a share of the range. Seconds are "
        "medians of small batches; times unguided is of the same images, drawn by turns."
    )
    yield (
        f"Classes: {sweep['labels']}. FID is to other real pictures than those of the maps. "
        f"Intervals: {sweep['intervals']}; of uneven ones the longer side."
    )


def cells(figures: Figures, names: Sequence[str] = FIGURES) -> str:
    """The cells of a line; no FID below 0 is shown, whatever was extrapolated."""
    least = {"fid": 0.0, "fid_infinity": 0.0}
    return " | ".join(shown(figures[name], least.get(name, -math.inf)) for name in names)

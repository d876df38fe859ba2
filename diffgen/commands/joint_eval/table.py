"""The figures of the evaluation, and their table as Markdown: a line a condition and row."""

from collections.abc import Iterator, Mapping
from typing import Any

from diffgen.commands.lacon_sweep.table import SCORES, cells
from diffgen.commands.sweeps import Figures, figure

ROWS = {
    "base": "base, without a map",
    "given": "image from map",
    "pair": "image from {pair}",
    "other": "image from {other} alone",
    "lacon": "image under the late constraint",
    "channels": "image from map as channels",
    "joint": "drawn together, image against its map",
    "shuffled": "drawn together, image against the map of the next one of its class",
    "maps": "map from picture",
    "untold": "map from picture, no class told",
    "constant": "best constant depth",
    "constants": "best constant depth of each picture",
    "fixed": "best fixed map",
    "fixed_class": "best fixed map of each class",
    "real": "real pictures",
}
"""Titles of the table's rows, in their order."""
DRAWN = ("base", "given", "pair", "lacon", "channels", "joint")
"""Rows of a cell's own images."""
FIXED = ("real", "constant", "constants", "fixed", "fixed_class")
"""Rows in which nothing is drawn: seeds don't matter."""
FIGURES = ("fidelity", "abs_rel", "delta1", "first", "control", *SCORES, "seconds", "times")
TITLES = {
    "abs_rel": "AbsRel",
    "first": "first {again}",
    "control": "control, first {again}",
    "fid": "FID",
    "fid_infinity": "FID at infinity",
    "class_accuracy": "class accuracy",
    "seconds": "seconds an image",
    "times": "times the base",
}


def row_figures(content: Mapping[str, Any], condition: str, row: str) -> Figures:
    """The figures of a row, by the content of its cell."""
    measured, floor = content["measured"], content["floor"]
    found = dict(measured["rows"][condition][row])
    if row in DRAWN:
        scores, intervals = content["scores"], content["intervals"]
        found |= {name: figure(scores.get(name), intervals.get(name)) for name in SCORES}
        found |= {name: measured[name] for name in ("seconds", "times")}
    if row == "real" and floor:
        found |= {name: figure(floor["scores"].get(name)) for name in SCORES}
    return {name: found.get(name) for name in FIGURES}


def markdown(sweep: Mapping[str, Any]) -> Iterator[str]:
    """The lines of the table, and below it what the columns mean; ``sweep``: of joint.json."""
    again, pair = sweep["again"], sweep["pair"]
    titles = [TITLES.get(name, name).format(again=again) for name in FIGURES]
    yield f"| condition | row | {' | '.join(titles)} |"
    yield "|---|---|" + "---|" * len(titles)
    for condition in sweep["conditions"]:
        rows = {one["row"]: one for one in sweep["rows"] if one["condition"] == condition}
        others = [name for name in pair if name != condition]
        for row, title in ROWS.items():
            if row in rows:
                told = title.format(pair=" and ".join(pair), other="".join(others))
                shown = condition.replace("|", "/")
                yield f"| {shown} | {told} | {cells(rows[row]['figures'], FIGURES)} |"
    yield ""
    for condition, facts in sweep["conditions"].items():
        better = "higher" if facts["higher"] else "lower"
        yield f"{condition}: {facts['figure']}, {better} is better, by {facts['read_by']}."
    yield ""
    pictures = "a held-out picture" if sweep["held_out"] else "a picture the model was trained on"
    yield (
        f"Fidelity is of {sweep['counts']['images']} images, each against the map of {pictures}, "
        "or where they are drawn together against the map drawn with it. Maps in images are read "
        "from the pixels, never by the joint model; those drawn from pictures are held against the "
        "pictures' maps. AbsRel: mean |d - d*| / d*; delta1: share of pixels with "
        "max(d / d*, d* / d) < 1.25; of depth d from 1 to 10. The best constant depths and fixed "
        "maps are the best for these very pictures, which flatters them. Beside fidelity that of "
        f"the first {again} alone, as control: the same against the same maps, but drawn from that "
        "of the next picture. Seconds are medians of small batches; times the base is of the same "
        "images, drawn by turns."
    )
    yield (
        f"Classes: {sweep['labels']}. FID is to other real pictures than those of the maps. "
        f"Intervals: {sweep['intervals']}; of uneven ones the longer side."
    )

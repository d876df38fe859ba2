"""The table as Markdown: a line a row and number of steps."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from diffgen.commands.nitro_eval.figures import SCORES
from diffgen.commands.sweeps import shown
from diffgen.metrics.shown import NAMES
from diffgen.page.markdown import rows

TITLES = {
    "teacher": "teacher, guided, by {scheduler}",
    "plain": "teacher, guided, by {scheduler}, as few steps",
    "regression": "regression alone",
    "student": "student",
    "pool": "pool of heads, as the student's",
    "fixed": "one fixed head for each type and tap",
    "refresh_0": "heads never begun anew",
    "refresh_1": "heads begun anew with 1 %",
    "refresh_5": "heads begun anew with 5 %",
    "no_local": "no heads on crops",
    "no_unconditional": "every head told the class",
    "linear": "linear loss",
    "hinge": "hinge loss",
    "softplus": "softplus loss",
    "regression_longer": "regression, for as many images more",
}
COLUMNS = ("row", "name", "steps", "seeds", "images", "scored at", "seconds")
LEAST = {"fid": 0.0, "fid_infinity": 0.0}
"""No distance is shown below."""


def markdown(found: Mapping[str, Any]) -> Iterator[str]:
    """The lines of the table, and below it what the columns mean; ``found``: of nitro.json."""
    head = [*COLUMNS, *(NAMES[name] for name in SCORES)]
    body = [list(_cells(line, found["settings"])) for line in found["rows"]]
    real = ["real images", *[""] * (len(COLUMNS) - 1), *_figures(found["real"])]
    yield from rows(head, [*body, real])
    yield ""
    settings, counts = found["settings"], found["counts"]
    yield (
        f"Of {counts['images']} images a value, from the same noises in every row, against "
        f"{counts['reference']} real ones of {settings['reference']}; classes: {found['labels']}. "
        f"Intervals: {found['intervals']}; of uneven ones the longer side."
    )
    yield (
        "Images and seconds (a mean over seeds) are of the stage that is scored: of students the "
        "second, which begins with the regression of the row regression. Seeds are of the second "
        "stage alone. Scored is of every student the checkpoint, after so many images, that came "
        "nearest to the teacher's images while it was trained; at 0 it is that regression. "
        "Trainings may have shared the machine, so that seconds are no comparison."
    )
    for line in found["rows"]:
        for seed, one in zip(line["seeds"], line["trainings"], strict=True):
            if one and one["stopped"]:
                yield ""
                yield f"{line['row']}, seed {seed}: {one['stopped']['message']}."


def title(row: str, settings: Mapping[str, Any]) -> str:
    """What a row is, in words; ``settings``: of nitro.json."""
    return TITLES[row].format(scheduler=settings["pairs"]["scheduler"])


def _cells(line: Mapping[str, Any], settings: Mapping[str, Any]) -> Iterator[str]:
    yield title(line["row"], settings)
    yield line["row"]
    yield str(line["steps"])
    seeds = dict.fromkeys(seed for seed in line["seeds"] if seed is not None)
    yield ", ".join(map(str, seeds)) or "-"
    trained = [one for one in line["trainings"] if one is not None]
    yield f"{trained[0]['images']:,}" if trained else "-"
    trained = trained[: len(seeds)]  # one that is drawn from every noise is told once
    scored = [one["best"]["images"] for one in trained if one["best"]]
    yield ", ".join(f"{images:,}" for images in scored) or "-"
    took = [one["seconds"] for one in trained]
    yield "-" if None in took or not took else f"{sum(took) / len(took):.0f}"
    yield from _figures(line["figures"])


def _figures(figures: Mapping[str, Any]) -> Sequence[str]:
    return [shown(figures[name], LEAST.get(name, -1.0)) for name in SCORES]

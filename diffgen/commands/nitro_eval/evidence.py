"""The claim that a student in one step comes close to its teacher, from finished rows."""

from collections.abc import Iterator, Mapping
from typing import Any

from diffgen.commands.lacon_sweep.finished import mean
from diffgen.commands.nitro_eval.compared import (
    MOST_FID,
    MOST_LOST,
    NO_WORSE,
    comparisons,
    teacher_of,
    values,
)
from diffgen.evidence import Evidence
from diffgen.evidence.compose import machine, portable
from diffgen.training.run_folder import flatten

ELSEWHERE = ("source", "out", "evidence", "commands", "device")
"""Settings that change no figure."""
CLAIM = (
    "Students of {model} draw in one step with an FID of at most {most:g} times the guided "
    "teacher's in {steps} steps, and with a class accuracy no more than {lost:g} points below; "
    "their FID is below that of the regression they begin with, and of the teacher in 1, in 2 and "
    "in 4 steps; and in 2 and in 4 steps it is at most {worse:g} times their own in one."
)
NULL = (
    "One step stays further behind the teacher; or the second stage adds nothing to the "
    "regression; or the teacher itself in as few steps is as good; or further steps do harm."
)


def claim(found: Mapping[str, Any]) -> Evidence:
    """The claim, its comparisons and what a reader must know; verdicts to be computed.

    ``found``: what nitro.json holds, of all rows.
    """
    settings = {k: v for k, v in found["settings"].items() if k not in ELSEWHERE}
    apart = ("settings", "commands", "schema")
    return Evidence(
        claim=CLAIM.format(
            model=found["model"],
            most=MOST_FID,
            lost=100 * MOST_LOST,
            steps=teacher_of(found)[1],
            worse=NO_WORSE,
        ),
        null_result=NULL,
        settings={
            **{name: _portable(value) for name, value in flatten(settings).items()},
            "labels": found["labels"],
            "counts": found["counts"],
        },
        commands=found["commands"],
        machine=machine(note="where this was written; trainings before it may have run elsewhere"),
        seeds=found["settings"]["seeds"],
        comparisons=[*comparisons(found)],
        remarks=[*remarks(found)],
        data={name: value for name, value in found.items() if name not in apart},
    )


def _portable(value: Any) -> Any:
    return [portable(one) for one in value] if isinstance(value, list) else portable(value)


def remarks(found: Mapping[str, Any]) -> Iterator[str]:
    """What a reader must know beside the verdict."""
    yield (
        "One teacher, one set of pairs and one regression: seeds are of the second stage alone, "
        "and intervals say nothing of other teachers."
    )
    yield (
        "Teacher and regression have one value each, repeated for every seed; all images are drawn "
        "from the same noise, so that intervals say nothing of other noise or other real images. "
        f"{_teacher_interval(found)}"
    )
    yield (
        "Rows of one seed say nothing of how much they would vary: their comparisons are "
        "inconclusive whatever the figures."
    )
    seed = found["teacher_seed"]
    of = "" if seed is None else f" (seed {seed})"
    yield f"The settings of the distillation were chosen on this teacher{of}."
    yield (
        "Of every student the checkpoint is scored whose images, on average over its numbers of "
        "steps, had the least FID to the teacher's, from noise that is not scored; one that only "
        "got worse is scored as the regression it began with. A student of an ablation that "
        "collapsed was trained on to its end."
    )
    yield from bias(found)
    yield budgets(found)


def _teacher_interval(found: Mapping[str, Any]) -> str:
    (line,) = [one for one in found["rows"] if one["row"] == "teacher"]
    interval = line["figures"]["fid"]["interval"]
    if interval is None:
        return "The teacher's FID has no interval of its own."
    low, high = interval
    return f"The teacher's FID has the jackknife's interval {low:.3g} to {high:.3g}."


def bias(found: Mapping[str, Any]) -> Iterator[str]:
    """How much of FID is the bias of few images, and what a factor on it allows."""
    student, teacher = (
        values(found, place, "fid") for place in (("student", 1), teacher_of(found))
    )
    floor = found["real"]["fid"]
    if not (student and teacher and floor):
        return
    least, start, end = floor["mean"], mean(teacher), mean(student)
    told = (
        f"FID of {found['counts']['images']} images is in part the bias of so few: other real "
        f"images have {least:.3g}, the teacher {start:.3g}, the student in one step {end:.3g}."
    )
    if start > least:
        excess, most = start - least, MOST_FID * start - least
        told += (
            f" Of the excess over real images the student has {(end - least) / excess:.2f} times "
            f"the teacher's; {MOST_FID:g} times its FID would be {most / excess:.2f} times."
        )
    yield told


def budgets(found: Mapping[str, Any]) -> str:
    """What the trainings took."""
    settings = found["settings"]
    pairs, first = settings["pairs"], settings["regression"]["train"]
    told = [
        f"{pairs['count']:,} pairs of {pairs['steps']} guided steps",
        f"{first['images']:,} images of regression in batches of {first['batch_size']}",
    ]
    for line in found["rows"]:
        trained = [one for one in line["trainings"] if one and one["seconds"] is not None]
        if line["steps"] == 1 and trained:
            took = mean([one["seconds"] for one in trained])
            told.append(f"{line['row']}: {trained[0]['images']:,} images, {took:.0f} s")
    return f"What was trained, times without scores: {'; '.join(told)}."

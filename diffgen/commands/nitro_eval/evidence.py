"""The claim that a student in one step comes close to its teacher, from finished rows."""

from collections.abc import Iterator, Mapping
from typing import Any

from diffgen.commands.nitro_eval.compared import (
    MOST_FID,
    MOST_LOST,
    NO_WORSE,
    comparisons,
    teacher_of,
    values,
)
from diffgen.commands.sweeps import mean
from diffgen.evidence import Evidence
from diffgen.evidence.compose import machine, portable
from diffgen.training.run_folder import flatten

ELSEWHERE = ("source", "out", "evidence", "commands", "device")
"""Settings that change no figure."""
CLAIM = (
    "Students of {model} draw in one step with an FID of at most {most:g} times their teacher's in "
    "{steps} steps, guided and by {scheduler}, and with a class accuracy no more than {lost:g} "
    "points below; their FID is below that of the regression they begin with, and of the teacher "
    "in 1, in 2 and in 4 steps, guided and by {scheduler} too; and in 2 and in 4 steps it is at "
    "most {worse:g} times their own in one."
)
NULL = (
    "One step stays further behind the teacher; or the adversarial stage adds nothing to the "
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
            scheduler=found["settings"]["pairs"]["scheduler"],
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
        "One teacher, one set of pairs and one regression: seeds are of the adversarial stage "
        "alone, and intervals say nothing of other teachers."
    )
    yield (
        "Value i of every row, counted from 0, is of images drawn from the noise of seed + i, and "
        "of students of the i-th seed: intervals say of both together, and nothing of other real "
        "images."
    )
    yield (
        "Rows of one seed say nothing of how much they would vary: their comparisons are "
        "inconclusive whatever the figures. regression_longer equals pool in images beyond the "
        "regression, not in time, and is scored at its end."
    )
    seed = found["teacher_seed"]
    of = "" if seed is None else f" (seed {seed})"
    yield (
        f"The settings of the distillation were chosen on this teacher{of}, the heads' learning "
        "rate among them, with the pool: in the other rows it is that of the pool, and another one "
        "might suit them better. fixed is untuned and differs from pool in several things at once: "
        "one head for each type and tap in the place of several, none of its own for a noise "
        "level, and never begun anew."
    )
    yield (
        "Of every student the checkpoint is scored whose images, on average over its numbers of "
        "steps, had the least FID to the teacher's, from noise that is not scored; one that only "
        "got worse is scored as the regression it began with. A student that collapsed was trained "
        "on to its end."
    )
    yield from diverged(found)
    yield from bias(found)
    yield budgets(found)


def diverged(found: Mapping[str, Any]) -> Iterator[str]:
    """Which trainings ended before their length."""
    for line in found["rows"]:
        for seed, one in zip(line["seeds"], line["trainings"], strict=True):
            if line["steps"] == 1 and one and one["stopped"]:
                yield (
                    f"The loss of {line['row']} of seed {seed} became NaN or infinite after "
                    f"{one['stopped']['images']:,} of {one['images']:,} images, where its training "
                    "ended; the best of its checkpoints until then is scored."
                )


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
    return (
        f"What was trained, times without scores: {'; '.join(told)}. Trainings may have shared the "
        "machine, so that times are no comparison."
    )

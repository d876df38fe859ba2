"""The claim that images and maps are drawn well from each other, from finished evaluations."""

from collections.abc import Iterator, Sequence

from diffgen.commands.joint_eval.compared import MOST_FID, comparisons, values
from diffgen.commands.lacon_sweep.finished import Sweep, seeds_of, shared_settings
from diffgen.commands.sweeps import mean
from diffgen.config.joint_eval import CLAIMED
from diffgen.evidence import Evidence
from diffgen.evidence.compose import machine, portable

CLAIM = (
    "Adapters beside a frozen model, of {}, draw images and maps from each other: depth drawn from "
    "pictures of which no class is told has under half the AbsRel of the best fixed map, and of "
    "the best constant depth; images drawn from depth meet it better than under LaCon's late "
    "constraint, with an FID of at most 1.2 times the base's; depth drawn together with an image "
    "is at most half as far from the depth read in that image as the depth drawn with the next "
    "image of its class; and images from two maps meet each better than images from the other "
    "alone."
)
NULL = (
    "Depth from pictures has no less than half the AbsRel of a map, or a depth, that is the same "
    "for all; or images from depth meet it no better than under a late constraint, or have a "
    "higher FID; or what is drawn together belongs together little more than what is of one class; "
    "or a second map adds nothing."
)
CHOSEN = (
    "Times, ranks and the optimiser were chosen on the model of seed 0, with other held-out "
    "pictures."
)


def claim(sweeps: Sequence[Sweep]) -> Evidence:
    """The claim, its comparisons and what a reader must know; verdicts to be computed."""
    first = sweeps[0]
    shared = shared_settings(first["settings"], first["size"])
    apart = ("settings", "commands")
    return Evidence(
        claim=CLAIM.format(", ".join(sweep["model"] for sweep in sweeps)),
        null_result=NULL,
        settings={
            **{name: portable(value) for name, value in shared.items()},
            "labels": first["labels"],
            "counts": first["counts"],
        },
        commands=[line for sweep in sweeps for line in sweep["commands"]],
        machine=machine(processes=first["processes"]),
        seeds=seeds_of(sweeps),
        comparisons=[*comparisons(sweeps)],
        remarks=[*remarks(sweeps)],
        data={
            "models": [
                {name: value for name, value in sweep.items() if name not in apart}
                for sweep in sweeps
            ]
        },
    )


def remarks(sweeps: Sequence[Sweep]) -> Iterator[str]:
    """What a reader must know beside the verdict."""
    first = sweeps[0]
    if len(sweeps) > 1:
        yield "A value is of one trained model with its own adapters, a mean over seeds of noise."
    else:
        yield "One model: values are of seeds of noise, and intervals say nothing of other models."
    held_out = all(sweep["held_out"] for sweep in sweeps)
    yield (
        f"Maps are of {'held-out pictures' if held_out else 'pictures of the training'} that FID "
        "does not compare with. What is in an image is read from its 8-bit pixels by the embedded "
        "reader or by a rule without weights, never by the joint model."
    )
    for name, facts in first["conditions"].items():
        real, found = (values(sweeps, name, row, "fidelity") for row in ("real", "given"))
        if real and found:
            yield (
                f"{name}: {facts['figure']} of images from maps is {mean(found):.3f}; real "
                f"pictures get {mean(real):.3f}, which is the reading's own error."
            )
    if "fixed" in [one["row"] for one in first["rows"]]:
        yield (
            "The best constant depth and the best fixed map are the best for the very pictures "
            "they are measured on, which flatters them."
        )
    yield CHOSEN
    yield from fid_remarks(sweeps)
    yield budgets(sweeps)


def fid_remarks(sweeps: Sequence[Sweep]) -> Iterator[str]:
    """How much of FID is the bias of few images, and what a factor on it allows."""
    first = sweeps[0]
    for name in [one for one in first["conditions"] if one in CLAIMED]:
        rows = ("base", "given", "real")
        base, given, floor = (values(sweeps, name, row, "fid") for row in rows)
        if not (base and given and floor):
            return
        start, end, least = mean(base), mean(given), mean(floor)
        told = (
            f"FID of {first['counts']['images']} images is in part the bias of so few: other real "
            f"pictures have {least:.3g}, the base {start:.3g}, images from {name} {end:.3g}."
        )
        if start > least:
            excess, most = start - least, MOST_FID * start - least
            told += (
                f" Of the excess over real pictures these have {(end - least) / excess:.2f} times "
                f"the base's; {MOST_FID:g} times its FID would be {most / excess:.2f} times."
            )
        yield told


def budgets(sweeps: Sequence[Sweep]) -> str:
    """What the trainings of all that is compared took."""
    trained = []
    for one in sweeps[0]["budgets"]:
        facts = [f"{one['parameters']:,} parameters"]
        if one["images"] is not None:
            facts.append(f"{one['images']:,} images in batches of {one['batch_size']}")
            facts.append(f"by {one['optimizer']}")
        if one["seconds"] is not None:
            facts.append(f"{one['seconds']:.0f} s")
        trained.append(f"{one['condition']}, {one['kind']}: {', '.join(facts)}")
    untimed = [[{**one, "seconds": None} for one in sweep["budgets"]] for sweep in sweeps]
    others = ""
    if len(sweeps) > 1:
        alike = all(one == untimed[0] for one in untimed)
        others = f"; for the other models {'the same, but for times' if alike else 'see data'}"
    return f"What was trained beside {sweeps[0]['model']}: {'; '.join(trained)}{others}."

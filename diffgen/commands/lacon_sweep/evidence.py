"""The claim that late constraints meet held-out conditions, from finished sweeps."""

from collections.abc import Iterator

from diffgen.commands.lacon_sweep.finished import Measured, shared_settings
from diffgen.commands.sweeps import mean
from diffgen.config.lacon_sweep import CLAIMED, CLAIMED_SCALE
from diffgen.evidence import Evidence
from diffgen.evidence.compose import machine, paired, portable
from diffgen.evidence.document import AnyComparison

INFINITY = "fid_infinity"
MOST_FID = 1.3
"""FID may grow so many times."""
CLAIM = (
    "Late constraints make {} meet held-out conditions: edge F1 and mask IoU at least double and "
    "the palette error at most halves, against unguided images and against images under another "
    "picture's map; and FID grows at most 1.3 times."
)
NULL = (
    "Images under a constraint meet their conditions no better than unguided ones, or no better "
    "than images under the map of another picture; or FID grows more."
)
CHOSEN = (
    "Scale 1 and the rule of the cut-off were chosen on the model of seed 0, with other held-out "
    "pictures."
)


def claim(measured: Measured) -> Evidence:
    """The claim, its comparisons and what a reader must know; verdicts to be computed."""
    first = measured.sweeps[0]
    shared = shared_settings(first["settings"], first["size"])
    apart = ("settings", "commands")
    return Evidence(
        claim=CLAIM.format(", ".join(sweep["model"] for sweep in measured.sweeps)),
        null_result=NULL,
        settings={
            **{name: portable(value) for name, value in shared.items()},
            "labels": first["labels"],
            "counts": first["counts"],
            "claimed": {"scale": CLAIMED_SCALE, "steps": first["steps"][0]},
        },
        commands=[line for sweep in measured.sweeps for line in sweep["commands"]],
        machine=machine(processes=first["processes"]),
        seeds=measured.seeds,
        comparisons=[*comparisons(measured)],
        remarks=[*remarks(measured)],
        data={
            "models": [
                {name: value for name, value in sweep.items() if name not in apart}
                for sweep in measured.sweeps
            ]
        },
    )


def comparisons(measured: Measured) -> Iterator[AnyComparison]:
    """Those the claim rests on for its conditions, and the same as asides for others."""
    again, scale = measured.sweeps[0]["again"], CLAIMED_SCALE
    for name, facts in measured.sweeps[0]["conditions"].items():
        role = "decisive" if name in CLAIMED else "aside"
        measure, better = facts["figure"], "higher" if facts["higher"] else "lower"
        factor, words = (2.0, "twice") if facts["higher"] else (0.5, "half of")
        few, fid = f"{measure} of the first {again} images", f"{MOST_FID:g} times the unguided"
        free, control = f"{words} the unguided", f"{words} that under another picture's map"
        for against, told, direction, this, other, times, bears in (
            (free, measure, better, "fidelity", ("fidelity", 0.0), factor, role),
            (control, few, better, "first", ("control", scale), factor, role),
            (fid, "fid", "lower", "fid", ("fid", 0.0), MOST_FID, role),
            (fid, INFINITY, "lower", INFINITY, (INFINITY, 0.0), MOST_FID, "aside"),
            ("the unguided", measure, better, "fidelity", ("fidelity", 0.0), 1.0, "aside"),
        ):
            values, others = (measured.values(name, *one) for one in ((this, scale), other))
            if values and others:
                title = f"{name} at scale {scale:g} against {against}"
                sides = values, [times * value for value in others]
                yield paired(title, told, direction, sides, bears)


def remarks(measured: Measured) -> Iterator[str]:
    """What a reader must know beside the verdict."""
    first = measured.sweeps[0]
    if len(measured.sweeps) > 1:
        yield "A value is of one trained model with its own aligners, a mean over seeds of noise."
    else:
        yield "One model: values are of seeds of noise, and intervals say nothing of other models."
    if len(first["seeds"]) > 1:
        yield "The pictures that conditions are of are the same for every seed of noise."
    yield CHOSEN
    held_out = all(sweep["held_out"] for sweep in measured.sweeps)
    yield (
        f"Conditions are of {'held-out pictures' if held_out else 'pictures of the training'} that "
        "FID does not compare with, and are read from 8-bit pictures by the embedded reader or by "
        "a rule without weights, never by an aligner."
    )
    for name, facts in first["conditions"].items():
        guided, free = (measured.values(name, "fidelity", s) or [] for s in (CLAIMED_SCALE, 0.0))
        end, start, real = mean(guided), mean(free), measured.real(name, "fidelity") or 0.0
        if facts["higher"] and 2 * start > real:
            yield (
                f"{name}: twice the unguided {facts['figure']} is {2 * start:.3f}, more than real "
                f"pictures get for their own maps ({real:.3f}), so that it cannot double."
            )
        if start != real:
            yield (
                f"{name}: {facts['figure']} goes {(end - start) / (real - start):.0%} of the way "
                f"from unguided ({start:.3f}) to real pictures ({real:.3f})."
            )
    floor = measured.real(next(iter(first["conditions"])), "fid")
    if floor is not None:
        yield (
            f"FID of {first['counts']['images']} images is in part the bias of so few: other real "
            f"pictures have {floor:.3g}. {INFINITY} is extrapolated to infinitely many."
        )

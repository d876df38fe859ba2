"""The claim that late constraints meet held-out conditions, from finished sweeps."""

import platform
import shlex
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import torch

from diffgen.commands.lacon_sweep.measured import Measured
from diffgen.commands.lacon_sweep.others import Sweep, shared_settings, with_others
from diffgen.config.lacon_sweep import CLAIMED, CLAIMED_SCALE, LaconSweepConfig
from diffgen.evidence import Evidence, Values, write_evidence
from diffgen.evidence.document import AnyComparison
from diffgen.training.run_folder import flatten

MOST_FID = 1.3
"""FID may grow so many times."""
CLAIM = (
    "Late constraints make the demo model meet held-out conditions: edge F1 and mask IoU at least "
    "double, the palette error at most halves, and FID grows at most 1.3 times."
)
NULL = (
    "Images under a constraint meet their conditions no better than unguided ones, or no better "
    "than images under the map of another picture; or FID grows more."
)


def write_claim(config: LaconSweepConfig, sweep: dict[str, Any]) -> Evidence:
    """The file that ``config.evidence`` names, about ``sweep`` and those of ``config.also``.

    Raises:
        UserError: these cannot be put together, or the file cannot be written.
    """
    sweeps = with_others(sweep, config.also)
    return write_evidence(str(config.evidence), claim(Measured(sweeps)))


def claim(measured: Measured) -> Evidence:
    """The claim, its comparisons and what a reader must know; verdicts to be computed."""
    first = measured.sweeps[0]
    return Evidence(
        claim=CLAIM,
        null_result=NULL,
        settings={
            **shared_settings(first),
            "labels": first["labels"],
            "counts": first["counts"],
            "claimed": {"scale": CLAIMED_SCALE, "steps": measured.steps},
            "conditions": {
                name: {key: facts[key] for key in ("figure", "higher", "read_by")}
                for name, facts in first["conditions"].items()
            },
        },
        commands=[line for sweep in measured.sweeps for line in commands(sweep)],
        machine={
            "platform": f"{platform.system()} {platform.machine()}",
            "python": platform.python_version(),
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            "processes": first["processes"],
        },
        seeds=measured.seeds,
        comparisons=[*comparisons(measured)],
        remarks=[*remarks(measured)],
        data={"models": [kept(sweep) for sweep in measured.sweeps]},
    )


def comparisons(measured: Measured) -> Iterator[AnyComparison]:
    """Those the claim rests on for its conditions, and the same as asides for others."""
    at = f"at scale {CLAIMED_SCALE:g}"
    for name, facts in measured.sweeps[0]["conditions"].items():
        role: Literal["decisive", "aside"] = "decisive" if name in CLAIMED else "aside"
        better: Literal["higher", "lower"] = "higher" if facts["higher"] else "lower"
        factor, words = (2.0, "twice") if facts["higher"] else (0.5, "half of")
        this, free = (measured.values(name, s, "fidelity") for s in (CLAIMED_SCALE, 0.0))
        bound = [factor * value for value in free]
        title = f"{name} {at}"
        yield paired(
            f"{title} against {words} the unguided", facts["figure"], better, role, (this, bound)
        )
        fid, other = (measured.values(name, s, "fid") for s in (CLAIMED_SCALE, 0.0))
        bound = [MOST_FID * value for value in other]
        yield paired(
            f"{title} against {MOST_FID:g} times the unguided", "fid", "lower", role, (fid, bound)
        )
        yield paired(f"{title} against unguided", facts["figure"], better, "aside", (this, free))
        shares = [measured.share(name, figure) for figure in ("fidelity", "control")]
        if shares[0] and shares[1]:
            what = f"share of the way of {facts['figure']} from unguided to real pictures"
            sides = shares[0], shares[1]
            yield paired(f"{title} against another picture's map", what, "higher", "aside", sides)


def paired(
    name: str,
    figure: str,
    direction: Literal["higher", "lower"],
    role: Literal["decisive", "aside"],
    sides: tuple[list[float], list[float]],
) -> Values:
    """Value i of both sides is of one model, or of one seed."""
    this, other = ([round(value, 6) for value in side] for side in sides)
    return Values(
        name=name,
        figure=figure,
        direction=direction,
        role=role,
        kind="paired",
        this=this,
        other=other,
    )


def remarks(measured: Measured) -> Iterator[str]:
    """What a reader must know beside the verdict."""
    first = measured.sweeps[0]
    if len(measured.sweeps) > 1:
        yield "A value is of one trained model with its own aligners, a mean over seeds of noise."
    else:
        yield "One model: values are of seeds of noise, and intervals say nothing of other models."
    yield (
        "Conditions are of held-out pictures that FID does not compare with, and are read from "
        "8-bit pictures by the embedded reader or by a rule without weights, never by an aligner."
    )
    for name, facts in first["conditions"].items():
        free, real = mean(measured.values(name, 0.0, "fidelity")), mean(measured.real(name))
        figure = facts["figure"]
        if facts["higher"] and 2 * free > real:
            yield (
                f"{name}: twice the unguided {figure} is {2 * free:.3f}, more than real pictures "
                f"get for their own maps ({real:.3f}), so that it cannot double."
            )
        share = measured.share(name, "fidelity")
        if share:
            yield (
                f"{name}: {figure} goes {mean(share):.0%} of the way from unguided ({free:.3f}) to "
                f"real pictures ({real:.3f}) at scale {CLAIMED_SCALE:g}."
            )
    yield (
        f"control is of {first['again']} images under the map of the next picture, measured "
        "against their own: what a constraint does to figures whatever it asks for."
    )
    yield (
        "Seconds are medians over batches, at the machine's speed when a cell was drawn; times is "
        "the cost against the same images without a constraint, drawn by turns."
    )


def mean(values: Sequence[float]) -> float:
    """Of one value or more."""
    return sum(values) / len(values)


def kept(sweep: Sweep) -> dict[str, Any]:
    """All figures of a model."""
    names = ("weights", "training_seed", "conditions", "real", "intervals")
    cells = [
        {key: cell[key] for key in ("condition", "steps", "scale", "figures")}
        for cell in sweep["cells"]
    ]
    return {**{name: sweep[name] for name in names}, "cells": cells}


def commands(sweep: Sweep) -> Iterator[str]:
    """What trains the aligners of a sweep, and draws it: every setting that is no default."""
    settings = flatten(sweep["settings"])
    source = settings["source"]
    for name in sweep["conditions"]:
        yield shlex.join(["python", "train/lacon.py", source, "--condition", name])
    defaults = flatten(LaconSweepConfig(source=source).model_dump(mode="json"))
    words = ["python", "eval/lacon.py", source]
    for name, value in settings.items():
        if name in ("evidence", "also") or value == defaults.get(name):
            continue
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{'' if value else 'no-'}{flag}")
        else:
            text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
            words += [f"--{flag}", text]
    yield shlex.join(words)

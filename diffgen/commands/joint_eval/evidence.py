"""The claim that images and maps are drawn well from each other, from finished evaluations."""

from collections.abc import Iterator, Sequence

from diffgen.commands.lacon_sweep.finished import Sweep, mean, seeds_of, shared_settings, values_of
from diffgen.config.joint_eval import CLAIMED
from diffgen.evidence import Evidence
from diffgen.evidence.compose import machine, paired, portable
from diffgen.evidence.document import AnyComparison

MOST_FID = 1.2
"""FID may be so many times the base's."""
CLAIM = (
    "Adapters beside a frozen model, of {}, draw images and maps from each other: depth drawn from "
    "pictures of a known class has under half the AbsRel of the best constant map; images drawn "
    "from depth and from edges meet these better than under LaCon's late constraint, with an FID "
    "of at most 1.2 times the base's; depth drawn together with an image is at most half as far "
    "from the depth read in that image as the depth drawn with another one; and images from two "
    "maps meet each better than images from the other alone."
)
NULL = (
    "Depth from pictures has no less than half the AbsRel of a constant map; or images from maps "
    "meet them no better than under a late constraint, or have a higher FID; or what is drawn "
    "together belongs together no more than what is not; or a second map adds nothing."
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


def values(sweeps: Sequence[Sweep], condition: str, row: str, figure: str) -> list[float] | None:
    """See ``values_of``; None too where there is no such row."""
    place, every = {"condition": condition, "row": row}, []
    for sweep in sweeps:
        found = [one["seeds"] for one in sweep["rows"] if place.items() <= one.items()]
        every.append([one[figure] for seeds in found for one in seeds] or [None])
    return values_of(every)


def comparisons(sweeps: Sequence[Sweep]) -> Iterator[AnyComparison]:
    """Those the claim rests on, then asides."""
    again, pair = sweeps[0]["again"], sweeps[0]["pair"]
    for name, facts in sweeps[0]["conditions"].items():
        measure, better = facts["figure"], "higher" if facts["higher"] else "lower"
        times, much = (2.0, "twice") if facts["higher"] else (0.5, "half of")
        told = {"fidelity": measure, "first": f"{measure} of the first {again} images"}
        alone = " and ".join(one for one in pair if one != name)
        claimed, depth, both = name in CLAIMED, name == "depth", name in pair
        given, fid = "image from map against", f"{MOST_FID:g} times the base"
        inverse = "map from picture against half of"
        for bears, title, figure, this, other, factor in (
            (claimed, f"{given} the late constraint", "fidelity", "given", "lacon", 1.0),
            (claimed, f"{given} {fid}", "fid", "given", "base", MOST_FID),
            (depth, f"both drawn against {much} others", "fidelity", "joint", "shuffled", times),
            (depth, f"{inverse} a constant", "abs_rel", "maps", "constant", 0.5),
            (both, f"image from both against {alone} alone", "fidelity", "both", "other", 1.0),
            (False, f"{given} the map as channels", "fidelity", "given", "channels", 1.0),
            (False, f"{given} the map as channels", "fid", "given", "channels", 1.0),
            (False, f"{given} {much} another's map", "first", "given", "given", times),
            (False, f"{given} {fid}", "fid_infinity", "given", "base", MOST_FID),
            (False, f"both drawn against {fid}", "fid", "joint", "base", MOST_FID),
            (False, f"{inverse} each picture's constant", "abs_rel", "maps", "constants", 0.5),
            (False, f"{inverse} a constant, untold", "abs_rel", "untold", "constant", 0.5),
        ):
            against = "control" if figure == "first" else figure
            sides = values(sweeps, name, this, figure), values(sweeps, name, other, against)
            if sides[0] and sides[1]:
                yield paired(
                    f"{name}: {title}",
                    told.get(figure, figure),
                    better if figure in told else "lower",
                    (sides[0], [factor * value for value in sides[1]]),
                    "decisive" if bears else "aside",
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
    floor = values(sweeps, next(iter(first["conditions"])), "real", "fid")
    if floor:
        yield (
            f"FID of {first['counts']['images']} images is in part the bias of so few: other real "
            f"pictures have {mean(floor):.3g}."
        )

"""The claim of a memorisation curve, from what was measured image by image."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from diffgen.commands.memorization.kept import stored_figures
from diffgen.commands.memorization.levels import differences, image_parts
from diffgen.commands.memorization.pictures import middle
from diffgen.config.memorization import WHICH, MemorizationConfig
from diffgen.evidence import Evidence, Share, Shares, Values, write_evidence
from diffgen.evidence.compose import command_line, machine, paired, rounded
from diffgen.evidence.document import AnyComparison
from diffgen.training.run_folder import flatten

Figures = Mapping[str, Any]
APART = ("schema", "settings", "images", "pictures", "values")
REMARKS = [
    "One pair of models for each N: intervals speak of other noise and other images, not of other "
    "trainings.",
    "Where N is less than the number of noisy images, training images occur again and again with "
    "other noise, and samples may be few images many times: intervals are those of independent "
    "ones.",
    "What second moments alone explain is shown aside: the agreement of the linear denoisers of "
    "the same two sets. That it is passed is no part of the claim.",
]


def write_claim(config: MemorizationConfig) -> None:
    """evidence.json, of the smallest and the largest N; with a single N there is none."""
    path = config.out / "evidence.json"
    if len(config.counts) < 2:
        path.unlink(missing_ok=True)
        return
    found = {count: stored_figures(config, count) or {} for count in config.columns()}
    write_evidence(path, claim(config, found))


def claim(config: MemorizationConfig, found: Mapping[int, Figures]) -> Evidence:
    """Few images are repeated, many are not, and then the models agree; verdicts to be computed.

    Args:
        config: what was asked for, of two N or more.
        found: the content of N.json by N, ascending.
    """
    few, many = min(found), max(found)
    sigma = middle(config.levels())
    return Evidence(
        claim=(
            f"Two models trained on {few:,} images each, none in common, draw from the same noise "
            "images that are more like a training image of their own than like each other. Two of "
            f"{many:,} draw images that are more like each other than either is to any training "
            "image of its own; fewer of them are copies; and at sigma "
            f"{sigma:g} they denoise training images less far ahead of held-out ones."
        ),
        null_result=(
            f"With {many:,} images as with {few:,}: samples of one noise are no more alike than "
            "each is to its nearest training image, as many are copies, and training images are "
            f"denoised as far ahead; or with {few:,} nothing is repeated."
        ),
        settings={**config.settings(), "counts": [*config.columns()]},
        commands=[command(config)],
        machine=machine(note="where this was written; trainings before it may have run elsewhere"),
        seeds=list(config.seeds()),
        comparisons=[*decisive(found, sigma), *asides(found)],
        remarks=REMARKS,
        data={
            "counts": {
                str(count): {k: v for k, v in one.items() if k not in APART}
                for count, one in found.items()
            }
        },
    )


def decisive(found: Mapping[int, Figures], sigma: float) -> Iterator[AnyComparison]:
    """Those the claim rests on."""
    few, many = min(found), max(found)
    first, last = (found[count]["values"] for count in (few, many))
    yield paired(
        f"N = {few}: sample and nearest training image, the less alike model, against both samples",
        *("correlation", "higher"),
        (each(min, first["nearest_own"]), first["agreement"]),
        unit="image",
    )
    yield paired(
        f"N = {many}: both samples against sample and nearest training image, the more alike model",
        *("correlation", "higher"),
        (last["agreement"], each(max, last["nearest_own"])),
        unit="image",
    )
    for which in WHICH:
        this, other = (found[count]["memorised"][which] for count in (many, few))
        if this and other:
            yield Shares(
                name=f"model {which}: N = {many} against N = {few}",
                figure="share of samples that are copies",
                direction="lower",
                this=Share(successes=this["hits"], count=this["count"]),
                other=Share(successes=other["hits"], count=other["count"]),
            )
    this, other = (gap(values, sigma) for values in (last, first))
    if this and other:
        name, figure = f"N = {many} against N = {few}", f"PSNR gap at sigma {sigma:g} [dB]"
        yield paired(name, figure, "lower", (this, other), unit="image")


def asides(found: Mapping[int, Figures]) -> Iterator[AnyComparison]:
    """What second moments explain, and whether samples keep as far from the set as new images."""
    many = max(found)
    for count in (min(found), many):
        values = found[count]["values"]
        if values["linear_agreement"]:
            name = f"N = {count}: both samples, against both linear denoisers'"
            sides = values["agreement"], values["linear_agreement"]
            yield paired(name, "correlation", "higher", sides, "aside", unit="image")
    last = found[many]["values"]
    yield Values(
        name=f"N = {many}: samples against images of the other set, to the nearest training image",
        figure="correlation",
        role="aside",
        kind="independent",
        direction="lower",
        unit="image",
        this=rounded([*last["nearest_own"][0], *last["nearest_own"][1]]),
        other=rounded(last["control"]),
    )


def each(choose: Callable[..., float], both: list[list[float]]) -> list[float]:
    """The smaller, or the larger, of both models' values for each noise."""
    return [choose(pair) for pair in zip(*both, strict=True)]


def gap(values: Figures, sigma: float) -> list[float] | None:
    """How far training images are denoised ahead of held-out ones; its mean is the table's gap."""
    (level,) = (one for one in values["levels"] if one["sigma"] == sigma)
    train, held_out = (image_parts(level, side) for side in ("train", "held_out"))
    return differences(train, held_out) if train and held_out else None


def command(config: MemorizationConfig) -> str:
    """What measures it again."""
    given = flatten({**config.settings(), "counts": config.columns()})
    defaults = flatten(MemorizationConfig().model_dump(mode="json"))
    return command_line(["python", "eval/memorization.py"], given, defaults)

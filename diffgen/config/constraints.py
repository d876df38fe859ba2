"""Late constraints of a sampling run: what its pictures shall match, checked without torch."""

import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import AfterValidator, Field

from diffgen.config.aligners import aligners_folder
from diffgen.config.base import Section, Size, parse_size
from diffgen.config.condition_files import shape_problems
from diffgen.config.data import IMAGE_SUFFIXES, image_files
from diffgen.config.source import Source

ALIGNED = ("edge", "mask", "stroke", "palette", "depth")
"""Conditions that an aligner reads from a model's features."""
ON_X0 = ("low_resolution", "inpaint")
"""Conditions on the picture itself, which need none."""
Form = Literal["rms", "ratio_rms", "norm", "sign", "none"]
"""How a gradient becomes a step; see ``guidance.late.unit_step``."""
DIVERGES = 2.0
"""Scale beyond which a step of a condition on the picture itself leads away from it."""


def _named_path(text: str) -> str:
    name, equals, path = text.partition("=")
    if not (name and equals and path):
        raise ValueError("must be NAME=PATH, for example edge=sketch.png")
    return text


class Wanted(NamedTuple):
    """One constraint as it was asked for."""

    name: str
    """Of ALIGNED or ON_X0, or MODULE:NAME."""
    path: Path
    """An image, or a folder of them."""
    scale: float
    until: float | None
    """None: as its aligner found."""

    def files(self, count: int | None = None) -> list[Path]:
        """The images that ``count`` samples take in turn; None: all there are."""
        return sorted(image_files(self.path))[:count] if self.path.is_dir() else [self.path]


class ConstraintsConfig(Section):
    """What the pictures of a sampling run shall match."""

    constraint: list[Annotated[str, AfterValidator(_named_path)]] = Field(default=[])
    """NAME=PATH, what the pictures shall match: edge, mask, stroke, palette, depth (each needs an
    aligner, see train/lacon.py), or your own MODULE:NAME; low_resolution, inpaint (no aligner).
    PATH is an image, or a folder whose images are taken in turn, in the order of their names; may
    be given several times."""
    constraint_scale: list[Annotated[float, Field(ge=0)]] = Field(default=[])
    """Strength, separated by commas, one for all or one each; none given: 1; 0: free [for forms rms
    and sign standard deviations of the training images]. For low_resolution and inpaint 1 meets the
    condition exactly, of several the last one's."""
    constraint_until: list[Annotated[float, Field(ge=0, le=1)]] = Field(default=[])
    """Constrain down to this time, one for all or one each; none given: as each aligner found, and
    0 for low_resolution and inpaint [1: noise, 0: picture]."""
    constraint_form: Form = "rms"
    """Length of a step along the gradient of an aligner's loss: rms, constant; ratio_rms, as large
    as the noise that is left; norm, of the loss's root; sign, of each value alike; none, the
    gradient's own."""
    constraint_from: Literal["map", "picture"] = "map"
    """The files are maps, or pictures whose maps are found first; low_resolution and inpaint always
    take pictures."""
    constraint_where: Path | None = None
    """Grey image: how much each place counts to constraints by aligners, white: fully, black: not;
    none: everywhere alike."""
    constraint_recurrence: int = Field(default=1, ge=1)
    """How often a step is walked at which a constraint acts, by fresh noise between [count]."""
    constraint_checkpointing: bool = False
    """Compute the model's blocks again on the way back: less memory, about a third more time."""
    aligners: Path | None = None
    """Folder with an aligner's folder for each condition; none: where train/lacon.py puts them,
    RUN/aligners, or where there is no run PIPELINE-aligners beside the pipeline folder."""

    def wanted(self) -> list[Wanted]:
        """The constraints, each with its own scale and end."""
        count = len(self.constraint)
        scales: list[float] = self.constraint_scale or [1.0]
        untils: list[float | None] = [*self.constraint_until] or [None]
        scales = scales * count if len(scales) == 1 else scales
        untils = untils * count if len(untils) == 1 else untils
        pairs = (text.partition("=") for text in self.constraint)
        return [
            Wanted(name, Path(path), scale, until)
            for (name, _, path), scale, until in zip(pairs, scales, untils, strict=True)
        ]

    def aligner_folder(self, source: Source) -> Path:
        """Where the aligners of ``source`` are."""
        return self.aligners or aligners_folder(source, str(source.pipeline))


def constraint_problems(
    config: ConstraintsConfig, source: Source, sizes: Sequence[Size], count: int
) -> Iterator[str]:
    """Complaints about the constraints of ``count`` pictures drawn at ``sizes`` (or as trained)."""
    yield from _idle(config)
    uneven = False
    for field in ("constraint_scale", "constraint_until"):
        given, due = len(getattr(config, field)), len(config.constraint)
        if due and given > 1 and given != due:
            uneven = True
            yield f"{field}: {given} are given for {due} constraints; give one for all, or one each"
    if uneven:
        return
    drawn = [parse_size(size) for size in sizes] or [source.sample_size]
    for wanted in config.wanted():
        yield from _name_problems(config, source, wanted)
        yield from _file_problems(wanted, source, drawn, count)
    if config.constraint and config.constraint_where is not None:
        where = config.constraint_where
        yield from shape_problems("constraint_where: ", where, source, drawn)


def _idle(config: ConstraintsConfig) -> Iterator[str]:
    """Complaints about options that do nothing."""
    names = {text.partition("=")[0] for text in config.constraint}
    of_aligners = {"form", "from", "where", "checkpointing"}
    of_all = {"scale", "until", "recurrence"}
    if not names:
        idle, why = of_all | of_aligners, "without a constraint"
    elif names <= set(ON_X0):
        idle, why = of_aligners, "without a constraint by an aligner"
    else:
        return
    for field, info in ConstraintsConfig.model_fields.items():
        value = getattr(config, field)
        concerned = field == "aligners" or field.removeprefix("constraint_") in idle
        if concerned and value != info.default:
            shown = ",".join(map(str, value)) if isinstance(value, list) else value
            yield f"{field}: {shown} has no effect {why}"


def _name_problems(config: ConstraintsConfig, source: Source, wanted: Wanted) -> Iterator[str]:
    """Complaints about a condition nobody knows, that has no aligner, or too large a scale."""
    name = wanted.name
    if name in ON_X0:
        if wanted.scale > DIVERGES:
            yield (
                f"constraint_scale: {wanted.scale:g} leads away from what {name} asks for; 1 meets "
                f"it exactly, {DIVERGES:g} is the most"
            )
    elif name in ALIGNED:
        place = config.aligner_folder(source)
        if not (place / name / "aligner" / "config.json").exists():
            yield (
                f"constraint: no aligner for {name} in {place}; train one with: "
                f"python train/lacon.py {source.run or source.pipeline} --condition {name}, or "
                "name the folder they are in with --aligners"
            )
    elif ":" not in name:
        near = difflib.get_close_matches(name, (*ALIGNED, *ON_X0), n=1)
        yield (
            f"constraint: {name!r} is unknown; known are {', '.join((*ALIGNED, *ON_X0))}, or give "
            f"MODULE:NAME of your own{f'; did you mean {near[0]}?' if near else ''}"
        )


def _file_problems(
    wanted: Wanted, source: Source, sizes: Sequence[tuple[int, int]], count: int
) -> Iterator[str]:
    """The first complaint about the files of a constraint."""
    said = f"constraint: {wanted.name}={wanted.path}"
    if not wanted.path.exists():
        yield f"{said} does not exist"
        return
    files = wanted.files(count)
    if not files:
        yield f"{said} holds no images ({', '.join(sorted(IMAGE_SUFFIXES))})"
    for file in files:
        found = list(shape_problems(f"constraint: {wanted.name}=", file, source, sizes))
        if found:
            yield found[0]
            return

"""Late constraints of a sampling run: what its pictures shall match, checked without torch."""

import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import AfterValidator, Field

from diffgen.config.base import Section, Size, parse_size
from diffgen.config.condition_sizes import file_problems
from diffgen.config.data import IMAGE_SUFFIXES, image_files
from diffgen.config.places import aligners_folder
from diffgen.config.source import Source
from diffgen.errors import UserError

ALIGNED = ("edge", "mask", "stroke", "palette", "depth")
"""Conditions that an aligner reads from a model's features."""
ON_X0 = ("low_resolution", "inpaint")
"""Conditions on the picture itself, which need none."""
OF_ALIGNERS = (
    *("constraint_form", "constraint_from", "constraint_where", "constraint_checkpointing"),
    "aligners",
)
"""Options that only constraints by an aligner heed."""
Form = Literal["rms", "ratio_rms", "norm", "sign", "none"]
"""How a gradient becomes a step; see ``guidance.late.unit_step``."""
DIVERGES = 2.0
"""Scale beyond which a step of a condition on the picture itself leads away from it."""


def _named_path(text: str) -> str:
    name, equals, path = text.partition("=")
    if not (name and equals and path):
        raise ValueError(
            "must be NAME=PATH, for example edge=sketch.png; commas separate several, and a path "
            "with a comma is quoted twice: '\"edge=a,b.png\"'"
        )
    return text


class Request(NamedTuple):
    """One constraint as it was asked for."""

    name: str
    """Of ALIGNED or ON_X0, or MODULE:NAME."""
    path: Path
    """An image, or a folder of them."""
    scale: float
    until: float | None
    """None: as its aligner found."""

    def files(self, count: int) -> list[Path]:
        """The images that ``count`` samples take in turn."""
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
    and sign standard deviations of the data's images]. For low_resolution and inpaint 1 meets the
    condition exactly, of several the last one's."""
    constraint_until: list[Annotated[float, Field(ge=0, lt=1)]] = Field(default=[])
    """Constrain down to this time, one for all or one each; none given: as each aligner found, and
    0 for low_resolution and inpaint [1: noise, 0: picture]. An aligner reads only the times it was
    trained at."""
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

    def requests(self) -> list[Request]:
        """The constraints, each with its own scale and end."""
        scales: list[float] = self.constraint_scale or [1.0]
        untils: list[float | None] = [*self.constraint_until] or [None]
        pairs = (text.partition("=") for text in self.constraint)
        return [
            Request(name, Path(path), scales[k % len(scales)], untils[k % len(untils)])
            for k, (name, _, path) in enumerate(pairs)
        ]


def constraint_problems(
    config: ConstraintsConfig, source: Source, name: str, sizes: Sequence[Size], count: int
) -> Iterator[str]:
    """Complaints about the constraints of ``count`` pictures of each of the ``sizes`` (none: as
    trained) of the model ``source``, which the user calls ``name``.

    Raises:
        UserError: see ``aligners_place``.
    """
    yield from _idle(config)
    due, lists = len(config.constraint), ("constraint_scale", "constraint_until")
    given = {field: len(getattr(config, field)) for field in lists}
    uneven = {field: number for field, number in given.items() if due and number not in (0, 1, due)}
    for field, number in uneven.items():
        yield f"{field}: {number} are given for {due} constraints; give one for all, or one each"
    if uneven or not due:
        return
    drawn = [parse_size(size) for size in sizes] or [source.sample_size]
    for request in config.requests():
        yield from name_problems("constraint", request.name, (*ALIGNED, *ON_X0))
        files = request.files(count)
        if not files:
            kinds = ", ".join(sorted(IMAGE_SUFFIXES))
            yield f"constraint: {request.name}={request.path} holds no images ({kinds})"
        yield from file_problems(f"constraint: {request.name}=", files, source, drawn)
        if request.name in ON_X0 and request.scale > DIVERGES:
            yield (
                f"constraint_scale: {request.scale:g} leads away from what {request.name} asks "
                f"for; 1 meets it exactly, {DIVERGES:g} is the most"
            )
    if config.constraint_where is not None:
        yield from file_problems("constraint_where: ", [config.constraint_where], source, drawn)
    for asked in dict.fromkeys(request.name for request in config.requests()):
        if asked not in ON_X0:
            place = aligners_place(config.aligners, source, name)
            yield from missing_aligner("constraint", asked, place, name)


def _idle(config: ConstraintsConfig) -> Iterator[str]:
    """Complaints about options that do nothing."""
    requests = config.requests()
    names = {request.name for request in requests}
    idle: dict[str, str] = {}
    if not names:
        idle = dict.fromkeys(ConstraintsConfig.model_fields, "without a constraint")
    elif names <= set(ON_X0):
        idle = dict.fromkeys(OF_ALIGNERS, "without a constraint by an aligner")
        if config.constraint_from == "picture":  # so they are taken anyway
            del idle["constraint_from"]
    if names and not any(request.scale for request in requests):
        idle["constraint_recurrence"] = "at constraint_scale 0"
    for field, why in idle.items():
        value = getattr(config, field)
        if value != ConstraintsConfig.model_fields[field].default:
            shown = ",".join(map(str, value)) if isinstance(value, list) else value
            yield f"{field}: {shown} has no effect {why}"


def name_problems(field: str, name: str, known: Sequence[str] = ALIGNED) -> Iterator[str]:
    """The complaint about a condition, asked for by option ``field``, that nobody knows."""
    if ":" not in name and name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        yield (
            f"{field}: {name!r} is unknown; known are {', '.join(known)}, or give MODULE:NAME of "
            f"your own{f'; did you mean {near[0]}?' if near else ''}"
        )


def aligners_place(given: Path | None, source: Source, name: str) -> Path:
    """The folder with the aligners of ``source``, called ``name``: ``given``, or the model's own.

    Raises:
        UserError: the model is one of the hub, and none is given.
    """
    try:
        return given or aligners_folder(source, name)
    except UserError:
        raise UserError(
            f"aligners: {name} is a model of the hub; name the folder its aligners are in"
        ) from None


def missing_aligner(field: str, name: str, place: Path, source: str) -> Iterator[str]:
    """The complaint about one of ALIGNED that has no aligner in ``place``.

    ``source``: what the user calls the model.
    """
    if name in ALIGNED and not (place / name / "aligner" / "config.json").is_file():
        yield (
            f"{field}: no aligner for {name} in {place}; train one with: python train/lacon.py "
            f"{source} --condition {name}, or name the folder they are in with --aligners"
        )

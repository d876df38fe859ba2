"""What a joint drawing is given and what it draws, by the names of its branches; without torch."""

import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import AfterValidator, Field

from diffgen.config.base import Section
from diffgen.config.constraints import ALIGNED
from diffgen.config.data import image_files
from diffgen.config.places import joint_folder
from diffgen.config.source import Source
from diffgen.errors import UserError

IMAGE = "image"
"""The branch of the images themselves."""
PAIRS = (*ALIGNED, "outline")
"""What ``train/joint.py --pair`` knows by name."""


def _named_path(text: str) -> str:
    name, equals, path = text.partition("=")
    if not (name and equals and path):
        raise ValueError(
            "must be NAME=PATH, for example depth=map.png; commas separate several, and a path "
            "with a comma is quoted twice: '\"depth=a,b.png\"'"
        )
    return text


NamedPath = Annotated[str, AfterValidator(_named_path)]


def taken_in_turn(path: Path, count: int | None) -> list[Path]:
    """The images that ``count`` drawings (None: any number) take in turn, by their names.

    ``path``: one, or a folder of them.
    """
    return sorted(image_files(path))[:count] if path.is_dir() else [path]


class Request(NamedTuple):
    """One picture, or a folder of them, as it was given."""

    name: str
    """IMAGE, or that of a condition, or MODULE:NAME."""
    path: Path
    coarse: float
    """Share of the steps, the last ones, by which it is drawn anew; 0: it stays as it is."""
    known: Path | None
    """Mask of the part that is kept."""

    @property
    def whole(self) -> bool:
        """Whether it stays as it is."""
        return self.coarse == 0


class JointGivenConfig(Section):
    """What is given of images and conditions, and which of them are drawn."""

    given: list[NamedPath] = Field(default=[])
    """NAME=PATH, what is given: image, or the map of a condition that has an adapter (see
    train/joint.py), of your own as MODULE:NAME. PATH is an image, or a folder whose images are
    taken in turn, in the order of their names, which are equal in several folders; may be given
    several times. It is written again at the size drawn, as it is or as it is drawn anew."""
    want: list[str] = Field(default=[])
    """What is drawn and written beside what is given, separated by commas: image, conditions,
    named as in --given; none given: image."""
    given_from: Literal["map", "picture"] = "map"
    """The files of given conditions are maps, or pictures whose maps are found first."""
    coarse: list[Annotated[float, Field(ge=0, le=1)]] = Field(default=[])
    """How much of what is given is drawn anew, separated by commas, one for all of --given or one
    each: 0, it is taken as it is; 0.7, rough maps are refined, images edited; 1, only its known
    part counts. None given: 0, or with a known part 1 [share of the steps from picture to noise;
    without a time shift the noise level of a flow]."""
    known: list[NamedPath] = Field(default=[])
    """NAME=MASK, the part of what is given that is kept: white in a grey image, black is drawn
    anew; a folder is taken in turn, as of --given; may be given several times."""
    condition_scale: float = Field(default=0.0, ge=0, le=1e6)
    """How much more counts what the branches tell each other: 0, as trained; above, at the cost of
    one more pass [dimensionless]."""
    weight: list[Annotated[float, Field(ge=0, le=1e6)]] = Field(default=[])
    """Of each condition's adapter, one for all or one each, in the order of their names in --given
    and then --want; none given: 1; 0 switches it off [dimensionless]."""
    adapters: Path | None = None
    """Folder with an adapter's folder for each condition; none: where train/joint.py puts them,
    RUN/joint, or where there is no run PIPELINE-joint beside the pipeline folder."""

    def requests(self) -> list[Request]:
        """What is given, each with its own level and mask."""
        masks = dict(parted(self.known))
        return [
            Request(name, path, self._level(k, name in masks), masks.get(name))
            for k, (name, path) in enumerate(parted(self.given))
        ]

    def conditions(self) -> list[str]:
        """Names of all conditions, in the order they were named."""
        named = [name for name, _ in parted(self.given)] + self.want
        return [name for name in dict.fromkeys(named) if name != IMAGE]

    def drawn(self) -> list[str]:
        """Names of what is drawn and written, images first."""
        levels = {one.name: one.coarse for one in self.requests()}
        asked = {*levels, *(self.want or [IMAGE])}
        every = [name for name in (IMAGE, *self.conditions()) if name in asked]
        return [name for name in every if levels.get(name) != 0]

    def written(self) -> list[str]:
        """Names of what is written: drawn, or given; images first."""
        kept = {one.name for one in self.requests()} | set(self.drawn())
        return [name for name in (IMAGE, *self.conditions()) if name in kept]

    def weights(self) -> list[float]:
        """Of each of the conditions."""
        weights = self.weight or [1.0]
        return [weights[k % len(weights)] for k in range(len(self.conditions()))]

    def _level(self, number: int, masked: bool) -> float:
        if self.coarse:
            return self.coarse[number % len(self.coarse)]
        return 1.0 if masked else 0.0


def parted(texts: Sequence[str]) -> list[tuple[str, Path]]:
    """Name and path of each NAME=PATH."""
    pairs = (text.partition("=") for text in texts)
    return [(name, Path(path)) for name, _, path in pairs]


def adapters_place(given: Path | None, source: Source, name: str) -> Path:
    """The folder with the adapters of ``source``, called ``name``: ``given``, or the model's own.

    Raises:
        UserError: the model is one of the hub, and none is given.
    """
    try:
        return given or joint_folder(source, name)
    except UserError:
        raise UserError(
            f"adapters: {name} is a model of the hub; name the folder its adapters are in"
        ) from None


def own_place(source: Source, name: str) -> Path | None:
    """Where ``train/joint.py`` puts the adapters of ``source``, called ``name``; None: nowhere."""
    try:
        return joint_folder(source, name)
    except UserError:
        return None


def missing_adapter(
    field: str, name: str, place: Path, source: str, own: Path | None = None
) -> Iterator[str]:
    """The complaint about a condition without an adapter in ``place``.

    ``source``: what the user calls the model; ``own``: where ``train/joint.py`` puts its adapters.
    """
    if (place / name / "adapter" / "config.json").is_file():
        return
    if (place / "adapter" / "config.json").is_file():
        yield f"adapters: {place} is an adapter itself; give its parent folder, {place.parent}"
        return
    if own is not None and (own / name / "adapter" / "config.json").is_file():
        yield f"{field}: no adapter for {name} in {place}, but one in {own}; leave out --adapters"
        return
    if name in PAIRS:
        yield (
            f"{field}: no adapter for {name} in {place}; train one with: python train/joint.py "
            f"{source} --pair {name}, or name the folder they are in with --adapters"
        )
        return
    there = sorted(file.parts[-3] for file in place.glob("*/adapter/config.json"))
    near = difflib.get_close_matches(name, [*there, *PAIRS, IMAGE], n=1)
    yield (
        f"{field}: {name!r} is unknown; known are {IMAGE} and what has an adapter in {place} "
        f"({', '.join(there) or 'none yet, see train/joint.py'})"
        f"{f'; did you mean {near[0]}?' if near else ''}"
    )

"""The configuration of ``eval/joint.py``."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field

from diffgen.config.constraints import ALIGNED, aligners_place, missing_aligner, name_problems
from diffgen.config.distilled import NO_OTHER_LEVELS
from diffgen.config.evaluate import EvaluateConfig
from diffgen.config.guidance import CFGConfig, GuidanceConfig
from diffgen.config.joint_given import adapters_place, missing_adapter
from diffgen.config.source import refused_if_distilled, resolve
from diffgen.config.sweep import SweepConfig
from diffgen.config.train import unwritable
from diffgen.errors import UserError

CLAIMED = ("depth",)
"""Conditions whose images, maps and pairs the claim of --evidence is about."""
How = Literal["base", "given", "joint", "lacon", "channels"]
"""How the images of a cell are drawn: without a map; from maps that are given; together with their
maps; from maps, under a late constraint or as further channels of the model."""
Baseline = Literal["lacon", "channels"]


def _known_baselines(value: Any) -> Any:
    if value in ("none", ["none"]):
        return []
    known = get_args(Baseline)
    for name in value if isinstance(value, list) else []:
        if name not in known:
            raise ValueError(f"{name!r} is not one of {', '.join(known)}; none is for neither")
    return value


Baselines = Annotated[list[Baseline], BeforeValidator(_known_baselines)]
"""With ``none`` for an empty list."""


class JointCellConfig(EvaluateConfig):
    """The evaluation of one cell."""

    how: How
    """How its images are drawn."""
    modules: dict[str, str]
    """By condition, sha256 of what draws them beside the model."""
    conditions: dict[str, str]
    """Conditions the images are measured against; sha256 of the maps of each."""


class JointEvalConfig(SweepConfig):
    """Score joint generation: images from maps, maps from images, and both drawn together.

    Image k is to match the map of held-out picture k, which is none of those that FID compares
    with. Cells that are there already are kept: the same command goes on where it was stopped.
    """

    conditions: list[str] = Field(default=["depth", "edge", "mask"])
    """Conditions, separated by commas: edge, mask, stroke, palette, depth, or MODULE:NAME of your
    own. Each needs an adapter, see train/joint.py. Images are drawn from the first two together,
    too."""
    adapters: Path | None = None
    """Folder with an adapter's folder for each condition; none: the model's own, RUN/joint."""
    baselines: Baselines = Field(default=["lacon", "channels"])
    """What they are compared with, separated by commas: lacon, the late constraint at scale 1 by an
    aligner, see train/lacon.py; channels, the map as further channels of the model, see
    train/joint.py --method channels; none, or []: with neither."""
    aligners: Path | None = None
    """Folder with an aligner's folder for each condition; none: the model's own, RUN/aligners."""
    guidance: GuidanceConfig = CFGConfig()
    """How predictions are combined into a better one, of images and of maps."""
    labels: Literal["auto"] = "auto"
    """Classes drawn: image k has that of held-out picture k where these have the model's classes,
    else the classes are drawn in turn."""
    floor: bool = True
    """Score real images against other real ones too: always, for their maps are the conditions."""
    profile: Literal["embedded"] | None = None
    """A published convention, which sets how images are scored: embedded (diffgen's reader); others
    draw random classes and leave no pictures for conditions. none: as the fields say."""
    num_images: int = Field(default=256, ge=8)
    """Images of a cell, and real ones they are compared with; as many other real ones are the
    conditions. From maps up to 64 are drawn again under another picture's; of the pictures maps are
    drawn twice, with the class told and without; 96 are drawn for the time [count]."""
    pictures: int = Field(default=8, ge=1, le=64)
    """Images of every cell that the picture grid shows, the first ones [count]."""
    out: Path = Path("joint-eval")
    """Folder for joint.json, joint.md, grid.png and the cells. Cells there of other settings are
    drawn anew in their place, which is told: to keep them, name another folder."""
    evidence: Path | None = None
    """JSON file for the claim that each is drawn well from the other, with its verdict, see
    docs/evidence.md; none: it is not written."""
    also: list[Path] = Field(default=[])
    """Finished folders of this command for other models, at the same settings, separated by commas:
    the claim is then about all of the models."""

    def cell(
        self, how: How, seed: int, modules: Mapping[str, str], maps: Mapping[str, str]
    ) -> JointCellConfig:
        """The evaluation that fills a cell; both mappings: digests by condition."""
        more = {"how": how, "seed": seed, "modules": modules, "conditions": maps}
        return self.evaluation(JointCellConfig, **more)

    def problems(self) -> Iterator[str]:
        """Yield mistakes of the sweep, of any cell, and on the disk."""
        refused = list(refused_if_distilled(self.source, NO_OTHER_LEVELS))
        if refused:
            yield from refused
            return
        if not self.conditions:
            yield "conditions: give at least one"
        if not self.floor:
            yield "floor: no leaves no pictures that conditions can be taken from; leave it out"
        if self.reference == "digits":
            yield (
                "reference: digits has too few held-out pictures for conditions beside those of "
                "FID; give shapes, or a folder or .npz of pictures"
            )
        if self.scheduler == "heun":
            yield (
                "scheduler: heun evaluates a step twice, which joint generation does not; give "
                "euler, dpmpp, lcm, ddim or ddpm"
            )
        if self.guidance.kind == "autoguidance":
            yield "guidance.kind: joint generation takes no guide; give another rule"
        yield from self.shared_problems("conditions", self.conditions, [])
        yield from self._evidence_problems()
        for name in self.conditions:
            yield from name_problems("conditions", name)
        with suppress(UserError):  # the cell's own complaint tells that there is no such model
            yield from self._missing()
        yield from self.cell("base", 0, {}, {}).problems()

    def folder(self, how: How, name: str) -> Path:
        """Where lies what draws images of condition ``name``.

        Raises:
            UserError: there is no such model, or it is one of the hub and no folder is given.
        """
        source = resolve(self.source)
        if how == "lacon":
            return aligners_place(self.aligners, source, self.source) / name
        place = adapters_place(self.adapters, source, self.source)
        return place / (f"{name}-channels" if how == "channels" else name)

    def missing_channels(self, name: str) -> Iterator[str]:
        """The complaint where there is no model with ``name`` as further channels."""
        folder = self.folder("channels", name)
        if not (folder / "channels" / "config.json").is_file():
            yield (
                f"baselines: {folder} holds no model with {name} as further channels; train one "
                f"with: python train/joint.py {self.source} --pair {name} --method channels, or "
                "leave it out with --baselines"
            )

    def _missing(self) -> Iterator[str]:
        """Yield conditions without an adapter, or what they are compared with."""
        for name in self.conditions:
            if name not in ALIGNED:  # what is its own, only its module tells the name of
                continue
            place = self.folder("given", name).parent
            yield from missing_adapter("conditions", name, place, self.source)
            if "channels" in self.baselines:
                yield from self.missing_channels(name)
            if "lacon" in self.baselines:
                place = self.folder("lacon", name).parent
                for told in missing_aligner("baselines", name, place, self.source):
                    yield f"{told}, or leave them out with --baselines"

    def _evidence_problems(self) -> Iterator[str]:
        """Yield why there can be no claim."""
        if self.evidence is None:
            if self.also:
                yield "also: changes nothing without evidence, a file for the claim"
            return
        if self.evidence.is_dir():
            yield f"evidence: {self.evidence} is a folder; name a file, {self.evidence}/joint.json"
        else:
            yield from unwritable("evidence", self.evidence.parent)
        enough = set(CLAIMED) <= set(self.conditions) and len(self.conditions) > 1
        if not enough or "lacon" not in self.baselines:
            what = f"{' and '.join(CLAIMED)} and another of conditions against the baseline lacon"
            yield f"evidence: the claim is about {what}; add what is missing"

"""The configuration of ``eval/lacon.py``."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from diffgen.config.base import Section
from diffgen.config.constraints import Form, aligners_place, missing_aligner, name_problems
from diffgen.config.distilled import NO_OTHER_LEVELS
from diffgen.config.evaluate import EvaluateConfig
from diffgen.config.guidance import CFGConfig, GuidanceConfig
from diffgen.config.source import refused_if_distilled, resolve
from diffgen.config.sweep import Scale, SweepConfig
from diffgen.config.train import unwritable
from diffgen.errors import UserError

Steps = Annotated[int, Field(ge=1)]
CLAIMED = ("edge", "mask", "palette")
"""Conditions that the claim of --evidence is about."""
CLAIMED_SCALE = 1.0
"""The scale it is about, the default of a constraint."""


class LateConfig(Section):
    """The late constraint of a cell."""

    condition: str
    """What the images shall match."""
    scale: float
    """Length of its steps."""
    form: Form
    """How its gradient is followed."""
    until: float | None
    """The time it ends at; none: the aligner's own."""
    recurrence: int
    """How often a step is walked at which it acts."""
    aligner: str
    """sha256 of the aligner's files."""


class LaconCellConfig(EvaluateConfig):
    """The evaluation of one cell: images under a late constraint, or unguided ones."""

    conditions: dict[str, str]
    """Conditions the images are measured against; sha256 of the maps of each."""
    late: LateConfig | None
    """None: unguided."""


class LaconSweepConfig(SweepConfig):
    """Score a model under late constraints: does it meet held-out conditions, and at what cost?

    Image k is to match the map of held-out picture k, which is none of those that FID compares
    with. Cells that are there already are kept: the same command goes on where it was stopped.
    """

    conditions: list[str] = Field(default=["edge", "mask", "palette"])
    """What images shall match, separated by commas: edge, mask, stroke, palette, depth, or
    MODULE:NAME of your own. Each needs an aligner, see train/lacon.py."""
    aligners: Path | None = None
    """Folder with an aligner's folder for each condition; none: the model's own, RUN/aligners."""
    scales: list[Scale] = Field(default=[0.5, 1.0, 2.0])
    """Scales of the constraint, separated by commas; 0, unguided, is drawn once for all
    [dimensionless]."""
    guidance: GuidanceConfig = CFGConfig()
    """How predictions are combined into a better one, before the constraint."""
    steps: list[Steps] = Field(default=[20])  # type: ignore[assignment]  # several, where one is
    """Steps from noise to image, separated by commas; the picture grid and the claim are of the
    first [count]."""
    labels: Literal["auto"] = "auto"
    """Classes drawn: image k has that of held-out picture k where these have the model's classes,
    else the classes are drawn in turn."""
    floor: bool = True
    """Score real images against other real ones too: always, for their maps are the conditions."""
    profile: Literal["embedded"] | None = None
    """A published convention, which sets how images are scored: embedded (diffgen's reader); others
    draw random classes and leave no pictures for conditions. none: as the fields say."""
    until: float | None = Field(default=None, ge=0, lt=1)
    """The time at which constraints end, 1 being pure noise; none: each aligner's own."""
    form: Form = "rms"
    """Step that a gradient is made: rms, of constant size (LaCon); ratio_rms, as large as the noise
    that is left (FreeDoM); norm, the gradient of the root of the loss (DPS); sign (Readout
    Guidance); none, the gradient itself."""
    recurrence: int = Field(default=1, ge=1)
    """How often a step is walked at which a constraint acts, with fresh noise between [count]."""
    num_images: int = Field(default=256, ge=8)
    """Images of a cell, and real ones they are compared with; as many other real ones are the
    conditions. A cell draws up to 64 more of other noise, and under a constraint the first of them
    again under another picture's map; 96 are drawn for the time [count]."""
    pictures: int = Field(default=8, ge=1, le=64)
    """Images of every cell that the picture grid shows, the first ones [count]."""
    out: Path = Path("lacon-sweep")
    """Folder for sweep.json, sweep.md, plot.png, grid.png and the cells."""
    evidence: Path | None = None
    """JSON file for the claim that conditions are met, with its verdict, see docs/evidence.md;
    none: it is not written."""
    also: list[Path] = Field(default=[])
    """Finished folders of this command for other models, at the same settings, separated by commas:
    the claim is then about all of the models."""

    def columns(self) -> list[float]:
        """The scales of constraints, each once, ascending; without 0."""
        return sorted({scale for scale in self.scales if scale})

    def cell(self, steps: int, seed: int, maps: Mapping[str, str]) -> LaconCellConfig:
        """The evaluation that fills an unguided cell; ``maps``: digests of them, by condition."""
        more = {"steps": steps, "seed": seed, "conditions": maps, "late": None}
        return self.evaluation(LaconCellConfig, **more)

    def late(self, condition: str, scale: float, aligner: str) -> LateConfig:
        """The constraint of a guided cell; ``aligner``: a digest of it."""
        shared = {name: getattr(self, name) for name in ("form", "until", "recurrence")}
        return LateConfig(condition=condition, scale=scale, aligner=aligner, **shared)

    def problems(self) -> Iterator[str]:
        """Yield mistakes of the sweep, of any cell, and on the disk."""
        refused = list(refused_if_distilled(self.source, NO_OTHER_LEVELS))
        if refused:
            yield from refused
            return
        if not self.conditions:
            yield "conditions: give at least one"
        if not self.steps or len(set(self.steps)) < len(self.steps):
            yield f"steps: give at least one, each once, not {self.steps}"
        if not self.columns():
            yield f"scales: {self.scales} holds none above 0, so that no constraint acts"
        if not self.floor:
            yield "floor: no leaves no pictures that conditions can be taken from; leave it out"
        if self.reference == "digits":
            yield (
                "reference: digits has too few held-out pictures for conditions beside those of "
                "FID; give shapes, or a folder or .npz of pictures"
            )
        yield from self.shared_problems("conditions", self.conditions, self.columns())
        yield from self._evidence_problems()
        for name in self.conditions:
            yield from name_problems("conditions", name)
        with suppress(UserError):  # the cell's own complaint tells that there is no such model
            place = self.aligner_folder()
            for name in self.conditions:
                yield from missing_aligner("conditions", name, place, self.source)
        problems = [self.cell(steps, 0, {}).problems() for steps in self.steps]
        yield from dict.fromkeys(chain.from_iterable(problems))

    def aligner_folder(self) -> Path:
        """Where the aligners are, each in a folder of its condition.

        Raises:
            UserError: there is no such model, or it is one of the hub and no folder is given.
        """
        return aligners_place(self.aligners, resolve(self.source), self.source)

    def _evidence_problems(self) -> Iterator[str]:
        """Yield why there can be no claim."""
        if self.evidence is None:
            if self.also:
                yield "also: changes nothing without evidence, a file for the claim"
            return
        if self.evidence.is_dir():
            yield f"evidence: {self.evidence} is a folder; name a file, {self.evidence}/lacon.json"
        else:
            yield from unwritable("evidence", self.evidence.parent)
        if CLAIMED_SCALE not in self.scales or not set(CLAIMED) <= set(self.conditions):
            what = f"conditions {', '.join(CLAIMED)} at scale {CLAIMED_SCALE:g}"
            yield f"evidence: the claim is about {what}; add those that are missing"

"""The configuration of ``eval/lacon.py``."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from pydantic import Field
from pydantic_settings import CliPositionalArg

from diffgen.config.aligners import aligners_folder
from diffgen.config.base import Size
from diffgen.config.constraints import ALIGNED, Form
from diffgen.config.evaluate import EvaluateConfig
from diffgen.config.lacon_cell import LaconCellConfig, LateConfig
from diffgen.config.pictures import is_image_folder, is_npz
from diffgen.config.sampling import Device, Dtype, SamplingConfig
from diffgen.config.scoring import ScoringConfig
from diffgen.config.source import resolve
from diffgen.config.train import unwritable
from diffgen.errors import UserError

Scale = Annotated[float, Field(ge=0, le=1e6)]
Steps = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0)]
CLAIMED = ("edge", "mask", "palette")
"""Conditions that the claim of --evidence is about."""
CLAIMED_SCALE = 1.0
"""The scale it is about, the default of a constraint."""


class LaconSweepConfig(SamplingConfig, ScoringConfig):
    """Score a model under late constraints: does it meet held-out conditions, and at what cost?

    Image k is to match the map of held-out picture k, which is none of those that FID compares
    with. Cells that are there already are kept: the same command goes on where it was stopped.
    """

    source: CliPositionalArg[str]
    """Run folder, pipeline folder or hub id of the model."""
    conditions: list[str] = Field(default=["edge", "mask", "palette"])
    """What images shall match, separated by commas: edge, mask, stroke, palette, depth, or
    MODULE:NAME of your own. Each needs an aligner, see train/lacon.py."""
    aligners: Path | None = None
    """Folder with an aligner's folder for each condition; none: the model's own, RUN/aligners."""
    scales: list[Scale] = Field(default=[0.5, 1.0, 2.0])
    """Scales of the constraint, separated by commas; 0, unguided, is drawn once for all
    [dimensionless]."""
    steps: list[Steps] = Field(default=[20])  # type: ignore[assignment]  # several, where one is
    """Steps from noise to image, separated by commas; the picture grid and the claim are of the
    first [count]."""
    seeds: list[Seed] = Field(default=[0])
    """Image k of a seed starts from the noise of (seed, k), the same for every cell; with several,
    intervals are over seeds, and else over images."""
    until: float | None = Field(default=None, ge=0, le=1)
    """The time at which constraints end, 1 being pure noise; none: each aligner's own."""
    form: Form = "rms"
    """Step that a gradient is made: rms, of constant size (LaCon); ratio_rms, as large as the noise
    that is left (FreeDoM); norm, the gradient of the root of the loss (DPS); sign (Readout
    Guidance); none, the gradient itself."""
    recurrence: int = Field(default=1, ge=1)
    """How often a step is walked at which a constraint acts, with fresh noise between [count]."""
    num_images: int = Field(default=256, ge=8)
    """Images drawn a cell, and real ones; as many others are the conditions [count]."""
    vae: str | None = None
    """Folder or hub id of the VAE that decodes a model of latents; none: the one it comes with."""
    size: Size | None = None
    """HEIGHTxWIDTH everything is drawn at [pixels]; none: as trained."""
    pictures: int = Field(default=8, ge=1, le=64)
    """Images of every cell that the picture grid shows, the first ones [count]."""
    device: Device = "auto"
    """Where to compute; auto: a GPU if there is one."""
    dtype: Dtype = "fp32"
    """Arithmetic of the model; bf16 needs a GPU."""
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

    def every_steps(self) -> list[int]:
        """The numbers of steps, each once, in the order given."""
        return list(dict.fromkeys(self.steps))

    def cell(self, steps: int, seed: int, conditions: list[str]) -> LaconCellConfig:
        """The evaluation that fills an unguided cell, measured against ``conditions``."""
        shared = self.model_dump(include=set(EvaluateConfig.model_fields) - {"out", "steps"})
        names = sorted(conditions)
        return LaconCellConfig(**shared, steps=steps, seed=seed, conditions=names, late=None)

    def late(self, condition: str, scale: float, aligner: str) -> LateConfig:
        """The constraint of a guided cell; ``aligner``: a digest of it."""
        shared = {name: getattr(self, name) for name in ("form", "until", "recurrence")}
        return LateConfig(condition=condition, scale=scale, aligner=aligner, **shared)

    def problems(self) -> Iterator[str]:
        """Yield mistakes of the sweep, of any cell, and on the disk."""
        for field in ("conditions", "steps", "seeds"):
            given = getattr(self, field)
            if not given:
                yield f"{field}: give at least one"
            if len(set(given)) < len(given):
                yield f"{field}: {given} names one twice"
        if not self.columns():
            yield f"scales: {self.scales} holds none above 0, so that no constraint acts"
        if not self.floor:
            yield "floor: no leaves no pictures that conditions can be taken from; leave it out"
        if self.labels != "auto":
            told = f", as profile {self.profile} has it" if self.profile else ""
            yield (
                f"labels: {self.labels}{told}, but image k has the class of held-out picture k; "
                "leave it out"
            )
        yield from unwritable("out", self.out)
        yield from self._evidence_problems()
        if is_npz(self.source) or is_image_folder(self.source):
            yield f"source: {self.source} holds pictures; a sweep draws them from a model"
            return
        yield from self._aligner_problems()
        seen: set[str] = set()
        for steps in self.every_steps():
            for problem in self.cell(steps, 0, self.conditions).problems():
                if problem not in seen:
                    seen.add(problem)
                    yield problem

    def _aligner_problems(self) -> Iterator[str]:
        """Yield conditions nobody knows, and such without an aligner."""
        for name in self.conditions:
            if ":" not in name and name not in ALIGNED:
                yield (
                    f"conditions: {name!r} is unknown; known are {', '.join(ALIGNED)}, or give "
                    "MODULE:NAME of your own"
                )
        try:
            place = self.aligner_folder()
        except UserError:
            return  # the cell's own complaint tells it
        for name in self.conditions:
            if name in ALIGNED and not (place / name / "aligner" / "config.json").is_file():
                yield self.no_aligner(name, place / name)

    def no_aligner(self, name: str, place: Path) -> str:
        """The complaint about condition ``name``, whose aligner should be in ``place``."""
        return (
            f"conditions: {name} has no aligner in {place}; train one with: "
            f"python train/lacon.py {self.source} --condition {name}"
        )

    def aligner_folder(self) -> Path:
        """Where the aligners are, each in a folder of its condition.

        Raises:
            UserError: there is no such model.
        """
        if self.aligners is not None:
            return self.aligners
        source = resolve(self.source)
        return aligners_folder(source, str(source.pipeline))

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
        if CLAIMED_SCALE not in self.columns():
            yield f"evidence: the claim is about scale {CLAIMED_SCALE:g}; add it to scales"
        for name in CLAIMED:
            if name not in self.conditions:
                yield f"evidence: the claim is about {name} too; add it to conditions"
        for folder in self.also:
            if not (folder / "sweep.json").is_file():
                yield f"also: {folder} holds no sweep.json; finish that sweep first"

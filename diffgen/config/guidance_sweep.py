"""The configuration of ``eval/guidance_sweep.py``."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from pydantic_settings import CliPositionalArg

from diffgen.config.base import Section, Size
from diffgen.config.evaluate import EvaluateConfig
from diffgen.config.guidance import (
    APGConfig,
    CFGConfig,
    CFGZeroStarConfig,
    GuidanceConfig,
    Guidances,
    described,
)
from diffgen.config.pictures import is_image_folder, is_npz
from diffgen.config.sampling import Device, Dtype, WalkConfig
from diffgen.config.scoring import ScoringConfig
from diffgen.config.source import resolve
from diffgen.config.train import unwritable
from diffgen.errors import UserError

Scale = Annotated[float, Field(ge=0, le=1e6)]
Seed = Annotated[int, Field(ge=0)]
KINDS = {"cfg": CFGConfig, "apg": APGConfig, "cfg_zero_star": CFGZeroStarConfig}


class RuleConfig(Section):
    """A row of the sweep: a guidance rule, whose scale the columns give."""

    name: str | None = Field(default=None, max_length=100, pattern=r"^[^\n]+$")
    """Title of the row [at most 100 characters]; none: its kind and settings."""
    guidance: GuidanceConfig
    """The rule."""

    @property
    def title(self) -> str:
        """``name``, or kind and settings without the scale."""
        kind, *more = described(self.guidance).split(", ")
        return self.name or ", ".join([kind.split(" ")[0], *more])

    def at(self, scale: float) -> Guidances:
        """The rule at one scale; where it does nothing, what every rule is there: unguided."""
        found = self.guidance.model_copy(update={"scale": scale})
        return found if found.effective else CFGConfig(scale=1.0)


class GuidanceSweepConfig(WalkConfig, ScoringConfig):
    """Score guidance rules at several scales: a line a rule, beside the real floor.

    Cells that are there already are kept: the same command goes on where it was stopped.
    """

    source: CliPositionalArg[str]
    """Run folder, pipeline folder or hub id of the model."""
    kinds: list[Literal["cfg", "apg", "cfg_zero_star"]] = Field(default=[])
    """Rules with their default settings, separated by commas; none given, and no rules: cfg and
    apg."""
    rules: list[RuleConfig] = Field(default=[])
    """Further rules, in a file that --config names: guidance, as in eval, and if wanted name."""
    scales: list[Scale] = Field(default=[1.0, 2.0, 4.0, 8.0, 16.0])
    """Guidance scales, separated by commas; 1 is unguided and drawn once for all
    [dimensionless]."""
    seeds: list[Seed] = Field(default=[0])
    """Image k of a seed starts from the noise of (seed, k), the same for every rule; several give
    intervals."""
    vae: str | None = None
    """Folder or hub id of the VAE that decodes a model of latents; none: the one it comes with."""
    size: Size | None = None
    """HEIGHTxWIDTH everything is drawn at [pixels]; none: as trained."""
    pictures: int = Field(default=4, ge=1, le=64)
    """Images of every cell that the picture grid shows, the first ones [count]."""
    device: Device = "auto"
    """Where to compute; auto: a GPU if there is one."""
    dtype: Dtype = "fp32"
    """Arithmetic of the model; bf16 needs a GPU."""
    out: Path = Path("guidance-sweep")
    """Folder for sweep.json, sweep.md, plot.png, grid.png and the cells."""

    def rows(self) -> list[RuleConfig]:
        """The rules of both fields."""
        kinds = self.kinds or ([] if self.rules else ["cfg", "apg"])
        return [RuleConfig(guidance=KINDS[kind]()) for kind in kinds] + list(self.rules)

    def columns(self) -> list[float]:
        """The scales, each once."""
        return sorted(set(self.scales))

    def cell(self, guidance: Guidances, seed: int) -> EvaluateConfig:
        """The evaluation that fills a cell."""
        shared = self.model_dump(include=set(EvaluateConfig.model_fields) - {"out"})
        return EvaluateConfig(**shared, guidance=guidance, seed=seed)

    def problems(self) -> Iterator[str]:
        """Yield mistakes of any rule, and on the disk."""
        rows = self.rows()
        stems = [stem(row.title) for row in rows]
        for name in dict.fromkeys(s for s in stems if stems.count(s) > 1):
            yield f"rules: two are called {name!r}; give one a name"
        for field in ("scales", "seeds"):
            if not getattr(self, field):
                yield f"{field}: give at least one"
        if len(set(self.seeds)) < len(self.seeds):
            yield f"seeds: {self.seeds} names one twice, which would narrow the intervals"
        for row in self.rules:
            if "scale" in row.guidance.model_fields_set:
                yield f"rules: {row.title}: guidance.scale has no effect, --scales gives the scales"
        yield from unwritable("out", self.out)
        yield from self._source_problems()
        told: set[str] = set()
        for row in rows:
            for problem in self.cell(row.guidance, 0).problems():
                if problem not in told:
                    told.add(problem)
                    named = problem.startswith("guidance.")
                    yield f"rules: {row.title}: {problem}" if named else problem

    def _source_problems(self) -> Iterator[str]:
        """The complaint about rules that have nothing to guide towards, or a source of pictures."""
        if is_npz(self.source) or is_image_folder(self.source):
            yield f"source: {self.source} holds pictures; a sweep draws them from a model"
            return
        try:
            if resolve(self.source).num_classes:
                return
        except UserError:
            return  # its own complaint tells it
        for row in self.rows():
            if row.guidance.kind != "autoguidance":
                yield (
                    f"source: {self.source} knows no classes, so {row.title} changes nothing; "
                    "autoguidance alone can guide it"
                )
                return


def stem(title: str) -> str:
    """A title, fit for a file."""
    return re.sub(r"[^\w.+-]+", "_", title)[:150]

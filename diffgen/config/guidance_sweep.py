"""The configuration of ``eval/guidance_sweep.py``."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import Field

from diffgen.config.base import Section
from diffgen.config.distilled import NO_SWEEP
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
from diffgen.config.source import refused_if_distilled, resolve
from diffgen.config.sweep import Scale, SweepConfig
from diffgen.errors import UserError

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


class GuidanceSweepConfig(SweepConfig):
    """Score guidance rules at several scales: a line a rule, beside the real floor.

    Cells that are there already are kept: the same command goes on where it was stopped.
    """

    kinds: list[Literal["cfg", "apg", "cfg_zero_star"]] = Field(default=[])
    """Rules with their default settings, separated by commas; none given, and no rules: cfg and
    apg."""
    rules: list[RuleConfig] = Field(default=[])
    """Further rules, in a file that --config names: guidance, as in eval, and if wanted name."""
    scales: list[Scale] = Field(default=[1.0, 2.0, 4.0, 8.0, 16.0])
    """Guidance scales, separated by commas; 1 is unguided and drawn once for all
    [dimensionless]."""
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
        return self.evaluation(EvaluateConfig, guidance=guidance, seed=seed)

    def problems(self) -> Iterator[str]:
        """Yield mistakes of any rule, and on the disk."""
        refused = list(refused_if_distilled(self.source, NO_SWEEP))
        if refused:
            yield from refused
            return
        rows = self.rows()
        if not self.scales:
            yield "scales: give at least one"
        for row in self.rules:
            if "scale" in row.guidance.model_fields_set:
                yield f"rules: {row.title}: guidance.scale has no effect, --scales gives the scales"
        yield from self.shared_problems("rules", [row.title for row in rows], self.columns())
        yield from self._source_problems()
        told: set[str] = set()
        for row in rows:
            for problem in self.cell(row.guidance, 0).problems():
                if problem not in told:
                    told.add(problem)
                    named = problem.startswith("guidance.")
                    yield f"rules: {row.title}: {problem}" if named else problem

    def _source_problems(self) -> Iterator[str]:
        """The complaint about rules that have nothing to guide towards."""
        if is_npz(self.source) or is_image_folder(self.source):
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

"""The document of a claim, schema "diffgen-evidence/1": its fields, and what follows from them."""

import math
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, JsonValue, model_validator

from diffgen.config.base import Section
from diffgen.evidence.rules import (
    Interval,
    Verdict,
    extreme_differences,
    independent_difference,
    paired_difference,
    verdict_of,
    verdict_of_claim,
)
from diffgen.metrics.intervals import wilson

Text = Annotated[str, Field(min_length=1)]
Facts = dict[str, JsonValue]
Measured = Annotated[list[float], Field(min_length=1)]


class Comparison(Section):
    """One figure of one thing against the same figure of another; abstract."""

    name: Text
    """What is compared with what: "apg against cfg at scale 8"."""
    figure: Text
    """What was measured: "fid"."""
    role: Literal["decisive", "condition", "aside"] = "decisive"
    """decisive: the claim rests on it. condition: nothing follows unless it holds. aside: shown."""
    verdict: Verdict | None = None
    """Computed."""


class Values(Comparison):
    """Measured values against measured values."""

    kind: Literal["paired", "independent"]
    """paired: value i of both sides shares what varies, such as the seed."""
    direction: Literal["lower", "higher", "nearer"]
    """Where the claim expects ``this``; nearer: to the target than ``other`` is."""
    target: float | None = None
    """With nearer: values count by their distance to it."""
    unit: Text = "seed"
    """What a value is one of. seed: of the document's seeds, if paired all in their order."""
    this: Measured
    other: Measured
    interval: Interval | None = None
    """Of this - other (of their distances with nearer), 95 %; none for want of values. Computed."""

    @model_validator(mode="after")
    def _fit(self) -> "Values":
        if self.kind == "paired" and len(self.this) != len(self.other):
            raise ValueError(f"{len(self.this)} values of this against {len(self.other)} of other")
        if (self.direction == "nearer") != (self.target is not None):
            raise ValueError("direction nearer and a target need each other")
        return self

    def judged(self) -> "Values":
        """A copy with interval and verdict of its values."""
        difference = paired_difference if self.kind == "paired" else independent_difference
        this, other = self.this, self.other
        if self.target is not None:
            this, other = ([abs(v - self.target) for v in values] for values in (this, other))
        interval = difference(this, other)
        verdict = verdict_of(interval, "higher" if self.direction == "higher" else "lower")
        return self.model_copy(update={"interval": interval, "verdict": verdict})


class Share(Section):
    """So many of so many."""

    successes: int = Field(ge=0)
    count: int = Field(ge=1)
    interval: Interval | None = None
    """Of the share, 95 %, Wilson. Computed."""

    @model_validator(mode="after")
    def _fit(self) -> "Share":
        if self.successes > self.count:
            raise ValueError(f"{self.successes} successes of {self.count}")
        return self

    def wilson(self) -> Interval:
        """The interval of its counts."""
        return wilson(self.successes, self.count)

    def judged(self) -> "Share":
        """A copy with its interval."""
        return self.model_copy(update={"interval": self.wilson()})


class Shares(Comparison):
    """A share against another one, each counted once: their intervals must be apart."""

    kind: Literal["shares"] = "shares"
    direction: Literal["lower", "higher"]
    this: Share
    other: Share

    def judged(self) -> "Shares":
        """A copy with intervals and verdict of its counts."""
        difference = extreme_differences(self.this.wilson(), self.other.wilson())
        verdict = verdict_of(difference, self.direction)
        sides = {"this": self.this.judged(), "other": self.other.judged()}
        return self.model_copy(update={**sides, "verdict": verdict})


class BoundedShare(Comparison):
    """A share against a number fixed beforehand: its interval must leave the number out."""

    kind: Literal["share"] = "share"
    direction: Literal["lower", "higher"]
    this: Share
    bound: float = Field(ge=0, le=1)

    def judged(self) -> "BoundedShare":
        """A copy with interval and verdict of its counts."""
        difference = extreme_differences(self.this.wilson(), (self.bound, self.bound))
        verdict = verdict_of(difference, self.direction)
        return self.model_copy(update={"this": self.this.judged(), "verdict": verdict})


AnyComparison = Annotated[Values | Shares | BoundedShare, Field(discriminator="kind")]


class Evidence(Section):
    """A claim, what was measured about it, and the verdict."""

    model_config = ConfigDict(serialize_by_alias=True)

    schema_: Literal["diffgen-evidence/1"] = Field(default="diffgen-evidence/1", alias="schema")
    claim: Text
    """One sentence that can be false."""
    null_result: Text
    """What is measured if there is nothing to it."""
    settings: Facts
    """All that the figures depend on."""
    commands: list[Text] = Field(min_length=1)
    """What gives the figures again, from the top of a checkout."""
    machine: Facts = Field(min_length=1)
    """Where they were measured, such as what a benchmark records as its environment."""
    seeds: list[int] = Field(min_length=1)
    """Of the things compared, such as trained models."""
    comparisons: list[AnyComparison] = Field(min_length=1)
    verdict: Verdict | None = None
    """Computed, from the comparisons by ``rules.verdict_of_claim``."""
    remarks: list[Text] = Field(default=[])
    """What a reader must know beside the verdict."""
    data: Facts = Field(default={})
    """Further figures, which no rule uses."""

    @model_validator(mode="after")
    def _fit(self) -> "Evidence":
        for mistake in self._mistakes():
            raise ValueError(mistake)
        return self

    def _mistakes(self) -> Iterator[str]:
        if not any(one.role == "decisive" for one in self.comparisons):
            yield "comparisons: none is decisive"
        if len(set(self.seeds)) < len(self.seeds):
            yield f"seeds: {self.seeds} names one twice"
        titles = [(one.name, one.figure) for one in self.comparisons]
        for i, one in enumerate(self.comparisons):
            if titles.index(titles[i]) < i:
                yield f"comparisons[{i}]: name and figure are those of an earlier one"
            if isinstance(one, Values) and one.unit == "seed":
                most = max(len(one.this), len(one.other))
                if most > len(self.seeds) or (one.kind == "paired" and most < len(self.seeds)):
                    yield f"comparisons[{i}]: {most} values for {len(self.seeds)} seeds"
        for name in ("settings", "machine", "data"):
            if not _finite(getattr(self, name)):
                yield f"{name}: JSON knows no infinity and no NaN; take null"

    def judged(self) -> "Evidence":
        """A copy with every interval and verdict as it follows from the values."""
        comparisons = [one.judged() for one in self.comparisons]
        decisive, conditions = (
            [one.verdict for one in comparisons if one.verdict and one.role == role]
            for role in ("decisive", "condition")
        )
        verdict = verdict_of_claim(decisive, conditions)
        return self.model_copy(update={"comparisons": comparisons, "verdict": verdict})


def _finite(content: Any) -> bool:
    if isinstance(content, dict | list):
        return all(map(_finite, content.values() if isinstance(content, dict) else content))
    return not isinstance(content, float) or math.isfinite(content)

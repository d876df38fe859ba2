"""Autoguidance (Karras et al. 2024): away from a weaker model with the same condition.

The guide is a smaller or less trained model of the same images, or the same one at another width
of its averaged weights. Unlike diffusers' rule of this name, which drops layers of the model
itself and takes the condition away, this is the paper's.
"""

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from diffgen.config.model import Prediction
from diffgen.guidance.cfg import CFG
from diffgen.guidance.rule import Baseline, Pass, Rule, Run


@dataclass(frozen=True)
class AutoGuidance:
    """A rule with the guide's prediction in the place of the unconditional one.

    ``AutoGuidance(CFG(w))`` is the paper's guide + w (cond - guide) (Karras et al. 2024, eq. 3).
    The guide itself is given to the pipeline:
    ``pipe(..., guidance=AutoGuidance(CFG(2)), guide=weak)``.
    """

    rule: Rule = field(default_factory=CFG)

    @property
    def baseline(self) -> Baseline:
        """See Rule.baseline."""
        return "guide"

    def begin(self, raw: Prediction = "x0") -> "_Run":
        """See Rule.begin."""
        return _Run(self.rule.begin(raw))


@dataclass(frozen=True)
class _Run:
    inner: Run

    def passes(self, level: float) -> tuple[Pass, ...]:
        """See Run.passes."""
        return ("cond",) if self.inner.passes(level) == ("cond",) else ("cond", "guide")

    def __call__(self, cond: Tensor, uncond: Tensor | None, **level: Any) -> Tensor:
        """See Run.__call__; ``uncond`` is the guide's prediction."""
        return self.inner(cond, uncond, **level)

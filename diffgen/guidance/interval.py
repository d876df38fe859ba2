"""Guidance in a limited interval of noise levels (Kynkäänniemi et al. 2024)."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

from torch import Tensor

from diffgen.config.model import Prediction
from diffgen.errors import UserError
from diffgen.guidance.rule import Baseline, Pass, Rule, Run
from diffgen.guidance.spaces import noise_level


@dataclass(frozen=True)
class Interval:
    """``rule`` where low < sigma / alpha <= high, and elsewhere the conditional pass alone.

    The bounds are noise levels, as in the paper; diffusers' ``start`` and ``stop`` are shares of
    the steps. Outside the interval the state of the rule rests.

    Raises:
        ValueError: a negative bound, or no level between the bounds.
    """

    rule: Rule
    low: float = 0.0
    high: float = inf

    def __post_init__(self) -> None:
        if not 0 <= self.low < self.high:
            raise ValueError(
                f"low and high must hold a noise level between them, 0 <= low < high, "
                f"not low {self.low} and high {self.high}"
            )

    def holds(self, level: float) -> bool:
        """True for a noise level inside."""
        return self.low < level <= self.high

    @property
    def baseline(self) -> Baseline:
        """See Rule.baseline."""
        return self.rule.baseline

    def begin(self, raw: Prediction = "x0") -> "_Run":
        """See Rule.begin."""
        return _Run(self, self.rule.begin(raw))


@dataclass(frozen=True)
class _Run:
    rule: Interval
    inner: Run

    def passes(self, level: float) -> tuple[Pass, ...]:
        """See Run.passes."""
        return self.inner.passes(level) if self.rule.holds(level) else ("cond",)

    def __call__(self, cond: Tensor, uncond: Tensor | None, **level: Any) -> Tensor:
        """See Run.__call__."""
        alpha, sigma = level.get("alpha"), level.get("sigma")
        if alpha is None or sigma is None:
            raise ValueError("an interval needs alpha and sigma")
        if not self.rule.holds(noise_level(alpha, sigma)):
            return cond
        return self.inner(cond, uncond, **level)


def check_reached(rule: Rule | None, levels: Sequence[float]) -> None:
    """Raise UserError where an interval in ``rule`` holds none of a drawing's noise levels."""
    while rule is not None:
        if isinstance(rule, Interval) and not any(map(rule.holds, levels)):
            walked = ", ".join(f"{level:.2g}" for level in levels)
            raise UserError(
                f"guidance: no step lies in the interval above {rule.low:g} and up to "
                f"{rule.high:g}; those of the drawing begin at {walked}"
            )
        rule = getattr(rule, "rule", None)

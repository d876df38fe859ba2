"""Guidance in a limited interval of noise levels (Kynkäänniemi et al. 2024)."""

from dataclasses import dataclass
from math import inf
from typing import Any

from torch import Tensor

from diffgen.config.model import Prediction
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
        return self.inner.passes(level) if self._inside(level) else ("cond",)

    def __call__(self, cond: Tensor, uncond: Tensor | None, **level: Any) -> Tensor:
        """See Run.__call__."""
        alpha, sigma = level.get("alpha"), level.get("sigma")
        if alpha is None or sigma is None:
            raise ValueError("an interval needs alpha and sigma")
        if not self._inside(noise_level(alpha, sigma)):
            return cond
        return self.inner(cond, uncond, **level)

    def _inside(self, level: float) -> bool:
        return self.rule.low < level <= self.rule.high

"""Classifier-free guidance (Ho and Salimans 2022)."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from diffgen.config.model import Prediction
from diffgen.guidance.rule import Baseline, Pass, number


def cfg(cond: Tensor, uncond: Tensor, scale: float) -> Tensor:
    """uncond + scale (cond - uncond) (Ho and Salimans 2022, eq. 6, with scale = 1 + w)."""
    return uncond + scale * (cond - uncond)


@dataclass(frozen=True)
class CFG:
    """Classifier-free guidance; scale 1 computes the conditional pass alone.

    Raises:
        ValueError: scale is negative or not finite.
    """

    scale: float = 2.0

    def __post_init__(self) -> None:
        number("scale", self.scale)

    @property
    def baseline(self) -> Baseline:
        """See Rule.baseline."""
        return "uncond"

    def begin(self, raw: Prediction = "x0") -> "CFG":
        """The rule has no state, so it is its own run."""
        return self

    def passes(self, level: float) -> tuple[Pass, ...]:
        """See Run.passes."""
        return ("cond",) if self.scale == 1 else ("cond", "uncond")

    def __call__(self, cond: Tensor, uncond: Tensor | None, **level: Any) -> Tensor:
        """See Run.__call__; the noise level does not matter."""
        return cond if uncond is None else cfg(cond, uncond, self.scale)

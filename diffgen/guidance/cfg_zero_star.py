"""CFG-Zero* (Fan et al. 2025): guidance of velocities with the unconditional one scaled to fit.

The rule is made for the velocity u = eps - x0 of a flow. Other processes are led there: at
x_t = alpha x0 + sigma eps the velocity is a function of x0 and sigma / alpha alone, since
x_t / (alpha + sigma) is what a flow has at the time sigma / (alpha + sigma).
"""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from diffgen.config.model import Prediction
from diffgen.guidance.apg import dot, exact
from diffgen.guidance.cfg import cfg
from diffgen.guidance.rule import Baseline, Pass, number
from diffgen.guidance.spaces import Level


def optimised_scale(cond: Tensor, uncond: Tensor) -> Tensor:
    """s* = <cond, uncond> / |uncond|^2 of each sample: (B, ...) -> (B, 1, ...)."""
    a, b = exact(cond), exact(uncond)
    return (dot(a, b) / (dot(b, b) + 1e-8)).to(cond.dtype)


def cfg_zero_star(cond: Tensor, uncond: Tensor, scale: float) -> Tensor:
    """s* uncond + scale (cond - s* uncond), of velocities (B, C, H, W)."""
    return cfg(cond, optimised_scale(cond, uncond) * uncond, scale)


@dataclass(frozen=True)
class CFGZeroStar:
    """CFG-Zero*; scale 1 computes the conditional pass alone, from the first step on.

    Args:
        scale: w; 1 is unguided.
        zero_above: a step that begins at a noise level sigma / alpha above this has the velocity 0
            ("zero-init"). The released code counts steps and takes the first; that is the default
            for a flow with up to 1,000 steps, whose first level is infinite. 0: never.

    Raises:
        ValueError: an argument is out of its range; it is named.
    """

    scale: float = 2.0
    zero_above: float = 1000.0

    def __post_init__(self) -> None:
        number("scale", self.scale)
        number("zero_above", self.zero_above)

    @property
    def baseline(self) -> Baseline:
        """See Rule.baseline."""
        return "uncond"

    def begin(self, raw: Prediction = "x0") -> "_Run":
        """See Rule.begin."""
        return _Run(self)

    def still(self, level: float) -> bool:
        """True where a step that begins at this level stands still."""
        return self.scale != 1 and 0 < self.zero_above < level


@dataclass
class _Run:
    rule: CFGZeroStar
    still: bool = False
    """The step does, in all its stages."""

    def passes(self, level: float) -> tuple[Pass, ...]:
        """See Run.passes."""
        if self.rule.scale == 1 or self.rule.still(level):
            return ("cond",)
        return ("cond", "uncond")

    def __call__(
        self, cond: Tensor, uncond: Tensor | None, *, advance: bool = True, **noisy: Any
    ) -> Tensor:
        """See Run.__call__."""
        if self.rule.scale == 1:
            return cond
        level = Level.given(**noisy)
        if advance:
            self.still = self.rule.still(level.ratio)
        if self.still:
            return level.to_x0("velocity", cond.new_zeros(()))
        if uncond is None:
            return cond
        own, base = (level.from_x0("velocity", x0) for x0 in (cond, uncond))
        return level.to_x0("velocity", cfg_zero_star(own, base, self.rule.scale))

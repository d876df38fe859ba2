"""Classifier-free guidance (Ho and Salimans 2022), and the shape every guidance rule has."""

from dataclasses import dataclass
from typing import Literal, Protocol

from torch import Tensor

Pass = Literal["cond", "uncond", "guide"]


class Run(Protocol):
    """One sampling run under a rule; whatever state a rule needs lives here."""

    def passes(self, level: float) -> tuple[Pass, ...]:
        """Predictions wanted at the noise level sigma / alpha."""

    def __call__(
        self,
        cond: Tensor,
        uncond: Tensor | None,
        *,
        x_t: Tensor | None = None,
        alpha: float | None = None,
        sigma: float | None = None,
        advance: bool = True,
    ) -> Tensor:
        """Combine x0 predictions (B, C, H, W). ``advance``: False on a solver's inner stages."""


class Rule(Protocol):
    """An immutable guidance rule."""

    def begin(self) -> Run:
        """Start a sampling run."""


def cfg(cond: Tensor, uncond: Tensor, scale: float) -> Tensor:
    """uncond + scale (cond - uncond) (Ho and Salimans 2022, eq. 6, with scale = 1 + w)."""
    return uncond + scale * (cond - uncond)


@dataclass(frozen=True)
class CFG:
    """Classifier-free guidance; scale 1 computes the conditional pass alone."""

    scale: float = 2.0

    def begin(self) -> "CFG":
        """The rule has no state, so it is its own run."""
        return self

    def passes(self, level: float) -> tuple[Pass, ...]:
        """See Run.passes."""
        return ("cond",) if self.scale == 1 else ("cond", "uncond")

    def __call__(
        self,
        cond: Tensor,
        uncond: Tensor | None,
        *,
        x_t: Tensor | None = None,
        alpha: float | None = None,
        sigma: float | None = None,
        advance: bool = True,
    ) -> Tensor:
        """See Run.__call__."""
        return cond if uncond is None else cfg(cond, uncond, self.scale)

"""Guidance without its gain in contrast (Lin et al. 2023, section 3.4)."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from diffgen.config.model import Prediction
from diffgen.guidance.rule import Baseline, Pass, Rule, Run


def rescale(guided: Tensor, cond: Tensor, share: float) -> Tensor:
    """share guided std(cond) / std(guided) + (1 - share) guided (Lin et al. 2023, eqs. 15, 16).

    Standard deviations are over all elements of a sample of (B, C, H, W).
    """
    wanted, found = (_deviation(x) for x in (cond, guided))
    return share * guided * (wanted / found) + (1 - share) * guided


def _deviation(x: Tensor) -> Tensor:
    return x.flatten(1).std(dim=1).reshape(-1, *[1] * (x.ndim - 1))


@dataclass(frozen=True)
class Rescale:
    """``rule`` with the standard deviation of its x0 drawn towards that of the conditional one.

    Args:
        rule: what to rescale.
        share: phi in [0, 1]; the paper's is 0.7.

    Raises:
        ValueError: the share is out of its range.
    """

    rule: Rule
    share: float = 0.7

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ValueError(f"share must lie in [0, 1], not {self.share}")

    @property
    def baseline(self) -> Baseline:
        """See Rule.baseline."""
        return self.rule.baseline

    def begin(self, raw: Prediction = "x0") -> "_Run":
        """See Rule.begin."""
        return _Run(self.share, self.rule.begin(raw))


@dataclass(frozen=True)
class _Run:
    share: float
    inner: Run

    def passes(self, level: float) -> tuple[Pass, ...]:
        """See Run.passes."""
        return self.inner.passes(level)

    def __call__(self, cond: Tensor, uncond: Tensor | None, **level: Any) -> Tensor:
        """See Run.__call__."""
        guided = self.inner(cond, uncond, **level)
        return guided if uncond is None else rescale(guided, cond, self.share)

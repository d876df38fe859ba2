"""Guidance of a part of the channels, as released DiT, SiT and FiT models are sampled."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from diffgen.config.model import Prediction
from diffgen.guidance.rule import Baseline, Pass, Rule, Run


@dataclass(frozen=True)
class FirstChannels:
    """``rule`` on the first ``count`` channels; the others stay the conditional pass's.

    Raises:
        ValueError: count is less than 1.
    """

    rule: Rule
    count: int

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"count must be 1 or more, not {self.count}")

    @property
    def baseline(self) -> Baseline:
        """See Rule.baseline."""
        return self.rule.baseline

    def begin(self, raw: Prediction = "x0") -> "_Run":
        """See Rule.begin."""
        return _Run(self.count, self.rule.begin(raw))


@dataclass(frozen=True)
class _Run:
    count: int
    inner: Run

    def passes(self, level: float) -> tuple[Pass, ...]:
        """See Run.passes."""
        return self.inner.passes(level)

    def __call__(self, cond: Tensor, uncond: Tensor | None, **level: Any) -> Tensor:
        """See Run.__call__."""
        kept = slice(self.count)
        if level.get("x_t") is not None:
            level["x_t"] = level["x_t"][:, kept]
        guided = self.inner(cond[:, kept], None if uncond is None else uncond[:, kept], **level)
        return torch.cat([guided, cond[:, self.count :]], dim=1)

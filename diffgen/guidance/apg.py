"""Adaptive projected guidance (Sadat et al. 2024, algorithm 1): high scales without oversaturation.

With denoised predictions Dc (conditional) and Du, each image by itself over all its elements:

    d   = Dc - Du
    m   = d + beta m',  d = m            m': the last step's m, 0 at first
    d   = d min(1, r / |d|)              m keeps its length
    par = <d, Dc> Dc / |Dc|^2
    D   = Dc + (w - 1) (d - (1 - eta) par)

eta 1 without r and beta is classifier-free guidance.
"""

from dataclasses import dataclass
from typing import Any, get_args

from torch import Tensor

from diffgen.config.guidance import NEVER, Combine, Space, ThresholdMode
from diffgen.config.model import Prediction
from diffgen.guidance.rule import Baseline, Pass, number
from diffgen.guidance.spaces import Level

TINY = 1e-30  # stands in for the squared length of a tensor of zeros


def exact(x: Tensor) -> Tensor:
    """``x`` in the dtype of inner products: float64, float32 where the device has none."""
    return x.float() if x.device.type == "mps" else x.double()


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Inner product of each sample: (B, ...) -> (B, 1, ...)."""
    return (a * b).flatten(1).sum(dim=1).reshape(-1, *[1] * (a.ndim - 1))


def parallel(d: Tensor, onto: Tensor) -> Tensor:
    """The part of ``d`` (B, ...) along ``onto``, sample by sample, in the dtype of ``d``."""
    a, b = exact(d), exact(onto)
    return (dot(a, b) / dot(b, b).clamp(min=TINY) * b).to(d.dtype)


def shorten(d: Tensor, longest: float) -> Tensor:
    """``d`` (B, ...) with the L2 norm of each sample at most ``longest``."""
    a = exact(d)
    length = dot(a, a).clamp(min=TINY).sqrt()
    return (a * (longest / length).clamp(max=1)).to(d.dtype)


def apg(cond: Tensor, d: Tensor, scale: float, eta: float, uncond: Tensor | None = None) -> Tensor:
    """cond + (scale - 1) (d - (1 - eta) par), with par the part of ``d`` along ``cond``.

    ``d``: the update after momentum and threshold. With ``uncond`` that plus scale times the same
    is returned, the form of diffusers' default; it starts lower, by the parallel part and what the
    threshold took.
    """
    update = d if eta == 1 else d - (1 - eta) * parallel(d, cond)
    return cond + (scale - 1) * update if uncond is None else uncond + scale * update


@dataclass(frozen=True)
class APG:
    """Adaptive projected guidance; scale 1 computes the conditional pass alone.

    Args:
        scale: w; 1 is unguided.
        eta: share of the parallel part that is kept.
        threshold: r, the longest update; None or 0: no bound.
        momentum: beta in (-1, 1). It is counted in steps: a solver that evaluates the model twice
            a step sees one state, that the step began with.
        threshold_mode: "norm": r is an L2 norm over all elements, as in the paper; "rms": it is
            that over the root of their number, and holds at any size; 1 or more would never act.
        space: "x0": denoised predictions, as in the paper; "raw": what the model predicts.
        combine: "cond": Dc + (w - 1) update, as in the paper; "uncond": Du + w update.

    Raises:
        ValueError: an argument is out of its range; it is named.
    """

    scale: float = 2.0
    eta: float = 0.0
    threshold: float | None = 0.01
    momentum: float = -0.75
    threshold_mode: ThresholdMode = "rms"
    space: Space = "x0"
    combine: Combine = "cond"

    def __post_init__(self) -> None:
        number("scale", self.scale)
        number("eta", self.eta, -float("inf"))
        number("threshold", self.threshold or 0.0)
        if self.threshold_mode == "rms" and (self.threshold or 0.0) >= NEVER:
            raise ValueError(
                f"threshold: an rms of {self.threshold} never shortens an update; if it is a norm, "
                'as in the paper, give threshold_mode="norm"'
            )
        if not -1 < self.momentum < 1:
            raise ValueError(f"momentum must lie between -1 and 1, not {self.momentum}")
        choices = {"threshold_mode": ThresholdMode, "space": Space, "combine": Combine}
        for name, allowed in choices.items():
            given = getattr(self, name)
            if given not in get_args(allowed):
                raise ValueError(f"{name} must be one of {get_args(allowed)}, not {given!r}")

    @property
    def baseline(self) -> Baseline:
        """See Rule.baseline."""
        return "uncond"

    def begin(self, raw: Prediction = "x0") -> "_Run":
        """See Rule.begin."""
        return _Run(self, "x0" if self.space == "x0" else raw)


@dataclass
class _Run:
    rule: APG
    space: Prediction
    before: Tensor | None = None
    """m of the last step."""
    now: Tensor | None = None
    """m of this one."""

    def passes(self, level: float) -> tuple[Pass, ...]:
        """See Run.passes."""
        return ("cond",) if self.rule.scale == 1 else ("cond", "uncond")

    def __call__(
        self, cond: Tensor, uncond: Tensor | None, *, advance: bool = True, **noisy: Any
    ) -> Tensor:
        """See Run.__call__."""
        if uncond is None:
            return cond
        rule, level = self.rule, None
        if self.space != "x0":
            level = Level.given(**noisy)
            cond, uncond = (level.from_x0(self.space, x0) for x0 in (cond, uncond))
        d = self._gather(cond - uncond, advance)
        if rule.threshold:
            count = d[0].numel() if rule.threshold_mode == "rms" else 1
            d = shorten(d, rule.threshold * count**0.5)
        start = uncond if rule.combine == "uncond" else None
        guided = apg(cond, d, rule.scale, rule.eta, start)
        return guided if level is None else level.to_x0(self.space, guided)

    def _gather(self, d: Tensor, advance: bool) -> Tensor:
        """``d`` with momentum."""
        if not self.rule.momentum:
            return d
        if advance:
            self.before, self.now = self.now, None
        gathered = d if self.before is None else d + self.rule.momentum * self.before
        if advance:
            self.now = gathered
        return gathered

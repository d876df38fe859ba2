"""The shape every guidance rule has."""

from typing import Literal, Protocol, TypeAlias

from torch import Tensor

from diffgen.config.model import Prediction

Baseline: TypeAlias = Literal["uncond", "guide"]
"""What the conditional prediction is compared with: the model's own without a condition, or that
of another model, the guide, with the same condition."""
Pass: TypeAlias = Literal["cond"] | Baseline


class Run(Protocol):
    """One sampling run under a rule; whatever state a rule needs lives here."""

    def passes(self, level: float) -> tuple[Pass, ...]:
        """Predictions wanted at the noise level sigma / alpha; "cond" always, and first."""

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
        """Combine x0 predictions (B, C, H, W), each image by itself.

        Args:
            cond: the conditional prediction.
            uncond: that of the rule's baseline; None: ``passes`` did not ask for it.
            x_t: (B, C, H, W) the noisy images.
            alpha, sigma: x_t = alpha x0 + sigma eps.
            advance: False on the inner stages of a solver that evaluates a step several times:
                they see the state their step began with, and leave it.
        """


class Rule(Protocol):
    """An immutable guidance rule."""

    @property
    def baseline(self) -> Baseline:
        """What the conditional prediction is compared with."""

    def begin(self, raw: Prediction = "x0") -> Run:
        """Start a sampling run; ``raw``: what the model predicts, for rules that act on that."""


def number(name: str, value: float, low: float = 0.0) -> None:
    """Raise ValueError unless ``value`` is a finite number from ``low`` on."""
    if not isinstance(value, (int, float)) or not low <= value < float("inf"):
        raise ValueError(f"{name} must be {low:g} or more, and finite, not {value!r}")

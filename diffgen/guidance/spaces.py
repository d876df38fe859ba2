"""What a model predicts as a function of x0, and back, at x_t = alpha x0 + sigma eps."""

from math import inf
from typing import NamedTuple

from torch import Tensor

from diffgen.config.model import Prediction
from diffgen.processes import gaussian


def noise_level(alpha: float, sigma: float) -> float:
    """sigma / alpha; infinite for pure noise."""
    return sigma / alpha if alpha > 0 else inf


class Level(NamedTuple):
    """Noisy images and their noise level."""

    x_t: Tensor
    """(B, C, H, W)."""
    alpha: float
    sigma: float
    """More than 0."""

    @classmethod
    def given(
        cls, x_t: Tensor | None = None, alpha: float | None = None, sigma: float | None = None
    ) -> "Level":
        """Of what a rule is called with.

        Raises:
            ValueError: something is missing.
        """
        if x_t is None or alpha is None or sigma is None:
            raise ValueError("this rule leaves x0: it needs x_t, alpha and sigma")
        return cls(x_t, alpha, sigma)

    @property
    def ratio(self) -> float:
        """sigma / alpha."""
        return noise_level(self.alpha, self.sigma)

    def from_x0(self, kind: Prediction, x0: Tensor) -> Tensor:
        """``x0`` (B, C, H, W) as a prediction of ``kind``: eps, v, or the velocity eps - x0."""
        if kind == "x0":
            return x0
        eps = gaussian.eps_from_x0(self.x_t, x0, self.alpha, self.sigma)
        if kind == "velocity":
            return eps - x0
        return gaussian.target(kind, x0, eps, self.alpha, self.sigma)

    def to_x0(self, kind: Prediction, prediction: Tensor) -> Tensor:
        """The inverse of ``from_x0``; of eps only where alpha is not 0, of v only on a chain."""
        if kind == "velocity":
            return (self.x_t - self.sigma * prediction) / (self.alpha + self.sigma)
        return gaussian.x0_from(kind, prediction, self.x_t, self.alpha, self.sigma)

"""What a model predicts as a function of x0, and back, at x_t = alpha x0 + sigma eps."""

from math import inf
from typing import NamedTuple

from torch import Tensor

from diffgen.config.model import Prediction


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
    def given(cls, x_t: Tensor | None, alpha: float | None, sigma: float | None) -> "Level":
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
        """``x0`` (B, C, H, W) as a prediction of ``kind``.

        eps = (x_t - alpha x0) / sigma, v = alpha eps - sigma x0 (Salimans and Ho 2022), and the
        flow's velocity eps - x0.
        """
        x_t, alpha, sigma = self
        match kind:
            case "x0":
                return x0
            case "eps":
                return (x_t - alpha * x0) / sigma
            case "v":
                return (alpha * x_t - (alpha**2 + sigma**2) * x0) / sigma
            case "velocity":
                return (x_t - (alpha + sigma) * x0) / sigma
        raise ValueError(f"prediction {kind!r} is not one of x0, eps, v, velocity")

    def to_x0(self, kind: Prediction, prediction: Tensor) -> Tensor:
        """The inverse of ``from_x0``; of eps only where alpha is not 0."""
        x_t, alpha, sigma = self
        match kind:
            case "x0":
                return prediction
            case "eps":
                return (x_t - sigma * prediction) / alpha
            case "v":
                return (alpha * x_t - sigma * prediction) / (alpha**2 + sigma**2)
            case "velocity":
                return (x_t - sigma * prediction) / (alpha + sigma)
        raise ValueError(f"prediction {kind!r} is not one of x0, eps, v, velocity")

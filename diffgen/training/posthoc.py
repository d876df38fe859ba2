"""Rebuilding an average of any width from snapshots (Karras et al. 2024, EDM2, section 3)."""

from dataclasses import dataclass

import numpy as np

from diffgen.training.ema import gamma_of_width


@dataclass(frozen=True)
class Profile:
    """The profile of one stored average: its width and the images seen when it was stored."""

    width: float
    seen: int


def overlap(a: Profile, b: Profile) -> float:
    """Inner product of two profiles p(s) = (gamma + 1) s^gamma / T^(gamma + 1) on [0, T]."""
    gamma_a, gamma_b = gamma_of_width(a.width), gamma_of_width(b.width)
    if a.seen > b.seen:
        gamma_a, gamma_b, a, b = gamma_b, gamma_a, b, a
    # The shorter profile ends first, so the product lives on [0, a.seen].
    ratio = (a.seen / b.seen) ** gamma_b / b.seen
    return (gamma_a + 1) * (gamma_b + 1) / (gamma_a + gamma_b + 1) * ratio


def coefficients(stored: list[Profile], wanted: Profile) -> np.ndarray:
    """Weights of the stored averages whose sum is closest to the wanted one (least squares).

    Returns:
        (len(stored),) float64. Their sum says how well it went: close to 1, or too few are stored.
    """
    gram = np.array([[overlap(a, b) for b in stored] for a in stored])
    target = np.array([overlap(a, wanted) for a in stored])
    scale = 1 / np.sqrt(np.diag(gram))  # neighbouring profiles are nearly parallel: equilibrate
    solution = np.linalg.lstsq(gram * np.outer(scale, scale), target * scale, rcond=None)[0]
    return solution * scale

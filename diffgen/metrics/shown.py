"""How figures are named and written in every table. Nothing here loads torch."""

from collections.abc import Sequence

NAMES = {
    "fid": "FID",
    "fid_infinity": "FID at infinity",
    "sfid": "sFID",
    "inception_score": "Inception score",
    "kid": "KID",
    "cmmd": "CMMD",
    "precision": "precision",
    "recall": "recall",
    "density": "density",
    "coverage": "coverage",
    "authenticity": "authenticity",
    "copied": "copied",
    "class_accuracy": "class accuracy",
}
"""Figures of a network's features, in the order they are told, and their names in a table."""
ROUNDING = 1e-9
"""What is left of a distance of equal sets."""
SHARES = ("precision", "recall", "coverage", "authenticity", "copied")


def shown(name: str, value: float, interval: Sequence[float] | None) -> str:
    """A figure with its interval, (low, high), in brackets."""
    text = number(name, value)
    if interval is None:
        return text
    return f"{text} [{number(name, interval[0])}, {number(name, interval[1])}]"


def number(name: str, value: float) -> str:
    """A figure as a table shows it; distances are not shown below 0."""
    if name == "class_accuracy":
        return f"{value:.1%}"
    if name in SHARES:
        return f"{value:.3f}"
    if name in ("fid", "sfid") and value < ROUNDING:
        return "0"
    return f"{value:.4g}"

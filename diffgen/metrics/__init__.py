"""Metrics judge what comes out: distances between feature sets and the networks that make them.

Names are resolved on first use, so that importing this package loads neither torch nor
torchmetrics.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diffgen.metrics.colour import colour_measures
    from diffgen.metrics.extractor import Extractor, load_extractor
    from diffgen.metrics.faces import Colour, FrechetDistance
    from diffgen.metrics.frechet import Moments, frechet_distance
    from diffgen.metrics.manifold import precision_recall
    from diffgen.metrics.reader import Reader, load_reader

__all__ = [
    "Colour",
    "Extractor",
    "FrechetDistance",
    "Moments",
    "Reader",
    "colour_measures",
    "frechet_distance",
    "load_extractor",
    "load_reader",
    "precision_recall",
]

_HOMES = {
    "Colour": "faces",
    "Extractor": "extractor",
    "FrechetDistance": "faces",
    "Moments": "frechet",
    "Reader": "reader",
    "colour_measures": "colour",
    "frechet_distance": "frechet",
    "load_extractor": "extractor",
    "load_reader": "reader",
    "precision_recall": "manifold",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

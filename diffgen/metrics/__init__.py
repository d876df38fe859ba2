"""Metrics judge what comes out: distances between feature sets and the networks that make them.

Names are resolved on first use, so that importing this package loads neither torch nor
torchmetrics.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diffgen.metrics.class_score import inception_score
    from diffgen.metrics.colour import colour_measures
    from diffgen.metrics.extractor import Extractor, load_extractor
    from diffgen.metrics.faces import Colour, FrechetDistance, OnFeatures
    from diffgen.metrics.frechet import Moments, frechet_distance
    from diffgen.metrics.frechet_jackknife import frechet_interval
    from diffgen.metrics.infinity import FidInfinity, fid_infinity
    from diffgen.metrics.kernel import cmmd, kernel_distance
    from diffgen.metrics.manifold import density_coverage, precision_recall
    from diffgen.metrics.manifold_jackknife import manifold_figures
    from diffgen.metrics.nearest import Neighbours, neighbours
    from diffgen.metrics.reader import Reader, load_reader
    from diffgen.metrics.resizes import resize

__all__ = [
    "Colour",
    "Extractor",
    "FidInfinity",
    "FrechetDistance",
    "Moments",
    "Neighbours",
    "OnFeatures",
    "Reader",
    "cmmd",
    "colour_measures",
    "density_coverage",
    "fid_infinity",
    "frechet_distance",
    "frechet_interval",
    "inception_score",
    "kernel_distance",
    "load_extractor",
    "load_reader",
    "manifold_figures",
    "neighbours",
    "precision_recall",
    "resize",
]

_HOMES = {
    "Colour": "faces",
    "Extractor": "extractor",
    "FidInfinity": "infinity",
    "FrechetDistance": "faces",
    "Moments": "frechet",
    "Neighbours": "nearest",
    "OnFeatures": "faces",
    "Reader": "reader",
    "cmmd": "kernel",
    "colour_measures": "colour",
    "density_coverage": "manifold",
    "fid_infinity": "infinity",
    "frechet_distance": "frechet",
    "frechet_interval": "frechet_jackknife",
    "inception_score": "class_score",
    "kernel_distance": "kernel",
    "load_extractor": "extractor",
    "load_reader": "reader",
    "manifold_figures": "manifold_jackknife",
    "neighbours": "nearest",
    "precision_recall": "manifold",
    "resize": "resizes",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

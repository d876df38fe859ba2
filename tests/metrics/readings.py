"""Two sides of random features, as a network of every layer would give them."""

import torch
from torch import Tensor

from diffgen.config.scoring import ScoringConfig
from diffgen.metrics.extractor import Extractor
from diffgen.metrics.moments import Moments
from diffgen.metrics.read import Reading
from diffgen.metrics.report import score_all
from diffgen.metrics.sides import Sides

WIDTHS = {"features": 6, "spatial": 9, "logits": 4, "embedding": 5}
CLASSES = ("a", "b", "c", "d")


def extractor(*layers: str) -> Extractor:
    widths = {name: WIDTHS[name] for name in layers}
    return Extractor("net", 6, "none", "none", lambda x: x, torch.device("cpu"), layers=widths)


def reading(count: int, seed: int, labels: Tensor | None = None) -> Reading:
    generator = torch.Generator().manual_seed(seed)
    layers = {
        name: torch.randn(count, width, generator=generator) + 0.1 * seed
        for name, width in WIDTHS.items()
    }
    colour = torch.rand(count, 4, generator=generator, dtype=torch.float64)
    named = torch.arange(count) % 4 if labels is None else labels
    return Reading({"net": layers}, named, CLASSES, colour, torch.zeros(0, 3, 1, 1).byte())


def sides(images: Reading, reference: Reading | None, **changes) -> Sides:
    """Through a network of every layer, without stored moments, but for ``changes``."""
    config = changes.pop("config", ScoringConfig())
    given = {
        "extractor": extractor(*WIDTHS),
        "stored": lambda *_: None,
        "order": None,
        "balanced": False,
        "intervals": True,
        **changes,
    }
    return Sides("net", images=images, reference=reference, config=config, **given)


def stored(**layers: Moments):
    return lambda _, layer: layers.get(layer)


def scored(images: Reading, **changes):
    arguments = {
        "reference": reading(80, 2),
        "floor": reading(len(images.labels), 3),
        "config": ScoringConfig(),
        "stored": lambda *_: None,
        "order": torch.arange(images.count),
        "balanced": False,
        **changes,
    }
    return score_all({"net": extractor(*WIDTHS)}, images, **arguments)


def by_class(count: int) -> Reading:
    """Logits certain of the label, sorted by class."""
    found = reading(count, 4, torch.arange(4).repeat_interleave(count // 4))
    found.layers["net"]["logits"] = 50 * torch.eye(4)[found.labels]
    return found

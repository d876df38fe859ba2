"""The figures of one evaluation, each beside that of real images against real images."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from torch import Tensor

from diffgen.config.npz import LAYERS
from diffgen.config.scoring import ScoringConfig
from diffgen.metrics.colour import colour_means
from diffgen.metrics.conventions import conventions
from diffgen.metrics.extractor import Extractor
from diffgen.metrics.figures import Figures, Sides, figures
from diffgen.metrics.moments import Moments
from diffgen.metrics.read import Extractors, Reading
from diffgen.metrics.shown import NAMES, shown
from diffgen.metrics.stored import moments_digest

__all__ = ["Report", "Seen", "conventions", "score_all", "table"]


@dataclass(frozen=True)
class Seen:
    """The figures of one network."""

    title: str
    extractor: Extractor
    images: Figures
    floor: Figures | None
    """Of real images against real images; None: there is no floor."""
    against: dict[str, Any]
    """What the Fréchet distance of each layer is to: how many images, and of stored moments
    their digest."""


@dataclass(frozen=True)
class Report:
    """The figures of every network, that of the headline first, and the colours."""

    seen: list[Seen]
    colour: Figures
    reference_colour: dict[str, float] | None

    def content(self) -> dict[str, Any]:
        """As JSON holds them: the first network's figures, then the others' in the same form."""
        first, *others = (content(one) for one in self.seen)
        for part, more in (("scores", self.colour.scores), ("intervals", self.colour.intervals)):
            first[part] |= more
        return {**first, "reference_colour": self.reference_colour, "further": others}


def content(seen: Seen) -> dict[str, Any]:
    """The figures of one network as JSON holds them."""
    floor = seen.floor
    return {
        "extractor": {"title": seen.title, **seen.extractor.facts()},
        "scores": dict(seen.images.scores),
        "intervals": dict(seen.images.intervals),
        "floor": floor and {"scores": floor.scores, "intervals": floor.intervals},
        "not_available": seen.images.missing,
        "notes": seen.images.notes,
        "against": seen.against,
        "fid_line": seen.images.line and asdict(seen.images.line),
    }


def score_all(
    extractors: Extractors,
    images: Reading,
    reference: Reading | None,
    floor: Reading | None,
    config: ScoringConfig,
    *,
    stored: Callable[[Extractor, str], Moments | None],
    order: Tensor,
    balanced: bool,
) -> Report:
    """Score ``images`` through every network.

    Args:
        extractors: by title.
        images: what to score.
        reference: real images; None: there are only their moments.
        floor: other real images; None: no floor, as against stored moments, which are of all.
        config: rules and counts.
        stored: moments of a layer that come before the reference's own, as in ADM's evaluator.
        order: places of ``images`` in the order of their source.
        balanced: their classes were fixed beforehand, not drawn at random.
    """
    seen = []
    for title, extractor in extractors.items():
        sides = Sides(
            title, extractor, images, reference, stored, order, balanced, config, config.intervals
        )
        lowest = None
        if floor is not None:
            lowest = figures(replace(sides, images=floor, order=None, intervals=False))
        seen.append(Seen(title, extractor, figures(sides), lowest, against(sides)))
    means = colour_means(images.colour)
    colour = Figures(
        {name: found.mean for name, found in means.items()},
        {name: found.interval for name, found in means.items()},
    )
    known = colour_means(reference.colour) if reference else None
    return Report(
        seen, colour, {name: found.mean for name, found in known.items()} if known else None
    )


def against(sides: Sides) -> dict[str, Any]:
    """What the Fréchet distance of each layer is to; see ``Seen.against``."""
    found: dict[str, Any] = {}
    for layer in LAYERS:
        target = sides.target(layer) if layer in sides.extractor.layers else None
        if isinstance(target, Moments):
            found[layer] = {"count": target.count, "sha256": moments_digest(target)}
        elif target is not None:
            found[layer] = {"count": len(target), "sha256": None}
    return found


def table(report: Report) -> str:
    """A printed table: the figures beside the floor's, and what saw the images."""
    blocks = [_block(seen) for seen in report.seen]
    real = report.reference_colour or {}
    rows = [("", "images", "reference" if real else "")]
    for name, value in report.colour.scores.items():
        if value is not None:
            other = f"{real[name]:.3g}" if real else ""
            rows.append((name, shown(name, value, report.colour.intervals[name]), other))
    return "\n".join([*blocks, _aligned(rows)])


def _block(seen: Seen) -> str:
    images, floor = seen.images, seen.floor
    rows = [(f"by {seen.title}", "images", "real against real" if floor else "")]
    for name, value in images.scores.items():
        if value is not None:
            other = floor.scores.get(name) if floor else None
            told = shown(name, value, images.intervals[name])
            rows.append((NAMES[name], told, "" if other is None else shown(name, other, None)))
    lines = [_aligned(rows), *images.notes]
    for reason in dict.fromkeys(images.missing.values()):
        names = [NAMES[name] for name, why in images.missing.items() if why == reason]
        lines.append(f"{', '.join(names)}: not available, {reason}")
    facts = seen.extractor
    lines.append(f"features: {facts.name}, {facts.num_features} wide, {facts.preprocessing}")
    lines.append(f"weights: sha256 {facts.weights_sha256}\n")
    return "\n".join(lines)


def _aligned(rows: list[tuple[str, str, str]]) -> str:
    wide = max(17, *(len(row[0]) + 1 for row in rows))
    middle = max(len(row[1]) for row in rows)
    return "\n".join(f"{name:{wide}}{a:>{middle}}  {b:>17}".rstrip() for name, a, b in rows)

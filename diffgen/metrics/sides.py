"""The two sides that figures compare, and what is found of them."""

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

from diffgen.config.scoring import ScoringConfig
from diffgen.metrics.extractor import Extractor
from diffgen.metrics.intervals import Estimate, Interval
from diffgen.metrics.jackknife import LEAST_ROWS, NUM_GROUPS, deal
from diffgen.metrics.moments import Moments
from diffgen.metrics.read import Reading
from diffgen.metrics.subset_line import Line

NO_IMAGES = "the reference holds statistics, but no images"
NO_MOMENTS = "the reference holds statistics, but none of this layer"


@dataclass
class Figures:
    """Scores by name; None: not available, for the reason in ``missing``."""

    scores: dict[str, float | None] = field(default_factory=dict)
    intervals: dict[str, Interval | None] = field(default_factory=dict)
    """95 %; None: not known."""
    missing: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    """What to know beside the figures."""
    line: Line | None = None
    """The Fréchet distances that ``fid_infinity`` was extrapolated beside."""

    def add(self, name: str, value: float, interval: Interval | None = None) -> None:
        """Note a figure."""
        self.scores[name], self.intervals[name] = float(value), interval

    def estimate(self, name: str, found: Estimate) -> None:
        """Note a figure with what is known of its uncertainty."""
        self.add(name, found.value, found.interval)

    def lack(self, name: str, reason: str) -> None:
        """Note why there is no figure."""
        self.scores[name], self.intervals[name], self.missing[name] = None, None, reason


@dataclass(frozen=True)
class Sides:
    """What an extractor saw of the images and of the reference, and how to score it."""

    title: str
    extractor: Extractor
    images: Reading
    reference: Reading | None
    """None: there are only moments."""
    stored: Callable[[Extractor, str], Moments | None]
    """Moments of a layer that come before the reference's own, as in ADM's evaluator."""
    order: Tensor | None
    """(N,) places of the images in the order of their source; None: as they come."""
    balanced: bool
    """The images' classes were fixed beforehand, not drawn at random."""
    config: ScoringConfig
    intervals: bool

    @property
    def jackknifes(self) -> bool:
        """Intervals are wanted, and there are images enough for groups of them."""
        return self.intervals and self.images.count >= LEAST_ROWS

    def groups(self, count: int, most: int = NUM_GROUPS) -> Tensor:
        """(count,) int64, at most ``most`` groups of the first ``count`` images."""
        strata = self.images.labels[:count] if self.balanced else None
        return deal(count, most, strata=strata)

    def fake(self, layer: str) -> Tensor:
        """(N, width) on the extractor's device."""
        return self.images.layers[self.title][layer].to(self.extractor.device)

    def real(self, layer: str) -> Tensor:
        """(M, width) on the extractor's device."""
        assert self.reference is not None
        return self.reference.layers[self.title][layer].to(self.extractor.device)

    @property
    def against_stored(self) -> bool:
        """The reference holds moments for this extractor, of whichever of its layers."""
        layers = self.extractor.layers
        return any(self.stored(self.extractor, layer) is not None for layer in layers)

    def target(self, layer: str) -> Tensor | Moments | None:
        """What the Fréchet distance of a layer is taken to; None: there is nothing.

        Stored moments of any layer stand for a whole data set, so the images that were kept of it
        do not stand in for a layer that lacks them.
        """
        if self.against_stored:
            return self.stored(self.extractor, layer)
        return None if self.reference is None else self.real(layer)

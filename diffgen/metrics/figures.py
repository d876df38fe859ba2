"""Every figure of one network's features, with its interval, or the reason why there is none."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from scipy.special import stdtrit
from torch import Tensor

from diffgen.config.scoring import ScoringConfig
from diffgen.metrics.class_score import inception_score
from diffgen.metrics.extractor import Extractor
from diffgen.metrics.frechet import Moments, frechet_distance, frechet_from_moments, moments
from diffgen.metrics.frechet_jackknife import NUM_GROUPS, frechet_interval
from diffgen.metrics.infinity import Line, fid_infinity
from diffgen.metrics.intervals import wilson
from diffgen.metrics.jackknife import deal
from diffgen.metrics.kernel import cmmd, kernel_distance, kernel_distance_interval
from diffgen.metrics.manifold import density_coverage, precision_recall
from diffgen.metrics.manifold_jackknife import NUM_GROUPS as MANIFOLD_GROUPS
from diffgen.metrics.manifold_jackknife import manifold_figures
from diffgen.metrics.nearest import neighbours
from diffgen.metrics.read import Reading
from diffgen.metrics.shown import NAMES

NO_PICTURES = "the reference holds statistics, but no images"
NO_CLASSES = "{} knows no classes"
UNKNOWN_CLASSES = "{} does not know all of the classes"
NO_LAYER = {
    "sfid": "{} has no spatial layer; inception has",
    "inception_score": "{} gives no logits",
    "cmmd": "{} is no CLIP model",
}
NO_MOMENTS = "the reference holds no statistics of this layer, and no images"
SPLITS, SHUFFLED_BY = 10, 2020
Interval = tuple[float, float]


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
    order: Tensor
    """(N,) places of the images in the order of their source."""
    balanced: bool
    """The images' classes were fixed beforehand, not drawn at random."""
    config: ScoringConfig
    intervals: bool

    def groups(self, most: int, count: int) -> Tensor:
        """(count,) int64, at most ``most`` groups of the first ``count`` images."""
        strata = self.images.labels[:count] if self.balanced else None
        return deal(count, min(most, count // 2), strata=strata)

    def fake(self, layer: str) -> Tensor:
        """(N, width) on the extractor's device."""
        return self.images.layers[self.title][layer].to(self.extractor.device)

    def real(self, layer: str) -> Tensor:
        """(M, width) on the extractor's device."""
        assert self.reference is not None
        return self.reference.layers[self.title][layer].to(self.extractor.device)

    def target(self, layer: str) -> Tensor | Moments | None:
        """What the Fréchet distance of a layer is taken to; None: there is nothing."""
        stored = self.stored(self.extractor, layer)
        return stored if stored or self.reference is None else self.real(layer)


def figures(sides: Sides) -> Figures:
    """All figures that can be had."""
    found = Figures()
    _frechet(sides, found)
    _inception_score(sides, found)
    _kernels(sides, found)
    _manifold(sides, found)
    _copies(sides, found)
    _class_accuracy(sides, found)
    ordered = {name: found.scores[name] for name in NAMES}
    return replace(found, scores=ordered)


def _frechet(sides: Sides, found: Figures) -> None:
    for name, layer in (("fid", "features"), ("sfid", "spatial")):
        if layer not in sides.extractor.layers:
            found.lack(name, NO_LAYER[name].format(sides.title))
            continue
        target, fake = sides.target(layer), sides.fake(layer)
        if target is None:
            found.lack(name, NO_MOMENTS)
            continue
        if sides.intervals:
            jackknifed = frechet_interval(target, fake, sides.groups(NUM_GROUPS, len(fake)))
            found.add(name, jackknifed.value, jackknifed.interval)
        else:
            found.add(name, _frechet_value(target, fake))
        if name == "fid":
            _at_infinity(sides, found, target, fake)
            _tell_low_rank(found, target, fake)
    if "fid_infinity" not in found.scores:
        found.lack("fid_infinity", found.missing.get("fid", "it was not asked for (intervals no)"))


def _frechet_value(target: Tensor | Moments, fake: Tensor) -> float:
    if isinstance(target, Moments):
        return frechet_from_moments(target, moments(fake))
    return frechet_distance(target, fake)


def _at_infinity(sides: Sides, found: Figures, target: Tensor | Moments, fake: Tensor) -> None:
    count, width = fake.shape
    least = min(count, count if isinstance(target, Moments) else len(target))
    if least <= width:
        reason = f"the 1/N law needs more images than features, {least} are fewer than {width}"
        found.lack("fid_infinity", reason)
    elif sides.intervals:
        extrapolated = fid_infinity(target, fake, sides.groups(NUM_GROUPS, count))
        found.add("fid_infinity", extrapolated.value, extrapolated.interval)
        found.line = extrapolated.line


def _tell_low_rank(found: Figures, target: Tensor | Moments, fake: Tensor) -> None:
    real = target.count if isinstance(target, Moments) else len(target)
    trace = "" if isinstance(target, Moments) else ", its trace comes from the features"
    for name, count in (("images", len(fake)), ("real images", real)):
        if count is not None and count <= fake.shape[1]:
            found.notes.append(
                f"FID: {count} {name} are too few for {fake.shape[1]} features: the covariance is "
                f"of low rank{trace}, and the figure is far too large"
            )


def _inception_score(sides: Sides, found: Figures) -> None:
    if "logits" not in sides.extractor.layers:
        found.lack("inception_score", NO_LAYER["inception_score"].format(sides.title))
        return
    logits = sides.fake("logits")
    if len(logits) < SPLITS:
        found.lack("inception_score", f"its {SPLITS} splits need as many images")
        return
    shuffled = sides.config.splits == "shuffled"
    logits = logits[sides.order.to(logits.device)]
    score = inception_score(logits, splits=SPLITS, shuffle_seed=SHUFFLED_BY if shuffled else None)
    # Chunks are disjoint, so their deviation gives the standard error of their mean.
    half = float(stdtrit(SPLITS - 1, 0.975)) * score.std / math.sqrt(SPLITS - 1)
    found.add("inception_score", score.mean, (score.mean - half, score.mean + half))


def _kernels(sides: Sides, found: Figures) -> None:
    for name, layer in (("kid", "features"), ("cmmd", "embedding")):
        if layer not in sides.extractor.layers:
            found.lack(name, NO_LAYER[name].format(sides.title))
        elif sides.reference is None:
            found.lack(name, NO_PICTURES)
        else:
            real, fake = sides.real(layer), sides.fake(layer)
            if name == "cmmd":
                found.add(name, cmmd(real, fake))
                continue
            if sides.intervals:
                groups = sides.groups(NUM_GROUPS, len(fake))
                jackknifed = kernel_distance_interval(real, fake, groups)
                found.add(name, jackknifed.value, jackknifed.interval)
            else:
                found.add(name, kernel_distance(real, fake))


def _manifold(sides: Sides, found: Figures) -> None:
    names = ("precision", "recall", "density", "coverage")
    if sides.reference is None:
        for name in names:
            found.lack(name, NO_PICTURES)
        return
    most, config = sides.config.manifold_images, sides.config
    real, fake = sides.real("features")[:most], sides.fake("features")[:most]
    k, density_k = config.k, config.density_k
    groups = sides.groups(MANIFOLD_GROUPS, len(fake))
    left = len(fake) - int(groups.bincount().max())
    if sides.intervals and len(real) > max(k, density_k) and left > k:
        jackknifed = manifold_figures(real, fake, k, config.rule, density_k, groups=groups)
        for name in names:
            figure = getattr(jackknifed, name)
            found.add(name, figure.value, figure.interval)
        return
    values = {**vars(precision_recall(real, fake, k, config.rule))}
    if len(real) > density_k:
        values.update(vars(density_coverage(real, fake, density_k)))
    for name in names:
        if name in values:
            found.add(name, values[name])
        else:
            found.lack(name, f"k = {density_k} needs more real images than {len(real)}")


def _copies(sides: Sides, found: Figures) -> None:
    if sides.reference is None:
        for name in ("authenticity", "copied"):
            found.lack(name, NO_PICTURES)
        return
    most = sides.config.manifold_images
    fake = sides.fake("features")[:most]
    near = neighbours(sides.real("features")[:most], fake)
    for name, share in (("authenticity", near.authenticity), ("copied", near.copied())):
        found.add(name, share, wilson(round(share * len(fake)), len(fake)))


def _class_accuracy(sides: Sides, found: Figures) -> None:
    correct, count = sides.images.correct(sides.title, sides.extractor), sides.images.count
    if correct is None:
        knows = sides.extractor.classify or "logits" in sides.extractor.layers
        found.lack("class_accuracy", (UNKNOWN_CLASSES if knows else NO_CLASSES).format(sides.title))
        return
    found.add("class_accuracy", correct / count, wilson(correct, count))

"""Every figure of one network's features, with its interval, or the reason why there is none."""

from dataclasses import replace

from diffgen.metrics import distances
from diffgen.metrics.class_score import inception_score
from diffgen.metrics.intervals import wilson
from diffgen.metrics.jackknife import LEAST_ROWS
from diffgen.metrics.manifold import density_coverage, precision_recall
from diffgen.metrics.manifold_jackknife import NUM_GROUPS, manifold_figures
from diffgen.metrics.nearest import neighbours
from diffgen.metrics.shown import NAMES
from diffgen.metrics.sides import NO_IMAGES, Figures, Sides

__all__ = ["Figures", "Sides", "figures"]

NO_LOGITS = "{} gives no logits"
NO_CLASSES = "{} knows no classes"
NO_LABELS = "the images have no labels"
UNKNOWN_CLASSES = "{} does not know all of the classes"
SPLITS, SHUFFLED_BY = 10, 2020  # torch-fidelity's
SPLIT_SIZE = 5000  # guided-diffusion's
MANIFOLD = ("precision", "recall", "density", "coverage")


def figures(sides: Sides) -> Figures:
    """All figures that can be had."""
    found = Figures()
    if sides.intervals and not sides.jackknifes:
        count = sides.images.count
        found.notes.append(f"{count} images are too few for the jackknife, {LEAST_ROWS} would do")
    distances.frechet(sides, found)
    _inception_score(sides, found)
    distances.kernels(sides, found)
    _manifold(sides, found)
    _copies(sides, found)
    _class_accuracy(sides, found)
    ordered = {name: found.scores[name] for name in NAMES}
    return replace(found, scores=ordered)


def _inception_score(sides: Sides, found: Figures) -> None:
    name = "inception_score"
    if "logits" not in sides.extractor.layers:
        found.lack(name, NO_LOGITS.format(sides.title))
        return
    logits = sides.fake("logits")
    if sides.order is not None:
        logits = logits[sides.order.to(logits.device)]
    if sides.config.splits == "in_order":
        score = inception_score(logits, split_size=SPLIT_SIZE)
        if score.chunks == 1:
            found.notes.append(f"Inception score: {len(logits)} images are one chunk, no interval")
    elif len(logits) < SPLITS:
        found.lack(name, f"its {SPLITS} splits need as many images")
        return
    else:
        score = inception_score(logits, splits=SPLITS, shuffle_seed=SHUFFLED_BY)
    found.estimate(name, score.estimate())


def _manifold(sides: Sides, found: Figures) -> None:
    if sides.reference is None:
        for name in MANIFOLD:
            found.lack(name, NO_IMAGES)
        return
    most, config = sides.config.manifold_images, sides.config
    real, fake = sides.real("features")[:most], sides.fake("features")[:most]
    k, density_k = config.k, config.density_k
    if sides.jackknifes:
        groups = sides.groups(len(fake), NUM_GROUPS)
        left = len(fake) - int(groups.bincount().max())
        if len(real) > max(k, density_k) and left > k:
            jackknifed = manifold_figures(real, fake, k, config.rule, density_k, groups=groups)
            for name in MANIFOLD:
                found.estimate(name, getattr(jackknifed, name))
            return
        found.notes.append(
            f"precision, recall, density, coverage: too few images for intervals, k = {k} needs "
            f"more than {k} without any group ({left} are left) and k = {max(k, density_k)} more "
            f"real ones ({len(real)})"
        )
    values: dict[str, float] = {}
    if len(real) > k:
        values |= vars(precision_recall(real, fake, k, config.rule))
    if len(real) > density_k:
        values |= vars(density_coverage(real, fake, density_k))
    for name in MANIFOLD:
        if name in values:
            found.add(name, values[name])
        else:
            needed = k if name in ("precision", "recall") else density_k
            found.lack(name, f"k = {needed} needs more real images than {len(real)}")


def _copies(sides: Sides, found: Figures) -> None:
    if sides.reference is None:
        for name in ("authenticity", "copied"):
            found.lack(name, NO_IMAGES)
        return
    most = sides.config.manifold_images
    fake = sides.fake("features")[:most]
    near = neighbours(sides.real("features")[:most], fake)
    for name, share in (("authenticity", near.authenticity), ("copied", near.copied())):
        found.add(name, share, wilson(round(share * len(fake)), len(fake)))


def _class_accuracy(sides: Sides, found: Figures) -> None:
    correct, count = sides.images.correct(sides.title, sides.extractor), sides.images.count
    if correct is not None:
        found.add("class_accuracy", correct / count, wilson(correct, count))
    elif "logits" not in sides.extractor.layers:
        found.lack("class_accuracy", NO_CLASSES.format(sides.title))
    elif (without := int((sides.images.labels < 0).sum())) > 0:
        some = f"{without} of {count} images have no label"
        found.lack("class_accuracy", NO_LABELS if without == count else some)
    else:
        found.lack("class_accuracy", UNKNOWN_CLASSES.format(sides.title))

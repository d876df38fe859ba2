"""The figures of one evaluation, each beside that of real images against real images."""

from dataclasses import dataclass
from typing import Any

from diffgen.metrics.colour import Mean, colour_means
from diffgen.metrics.extractor import Extractor
from diffgen.metrics.frechet import Moments, frechet_distance, frechet_from_moments, moments
from diffgen.metrics.intervals import wilson
from diffgen.metrics.manifold import precision_recall
from diffgen.metrics.read import Reading

NO_PICTURES = "the reference holds mu and sigma, but no images"
NO_CLASSES = "only the reader knows classes"
UNKNOWN_CLASSES = "the reader does not know all of the classes"


@dataclass(frozen=True)
class Scores:
    """Figures of one set of images against a reference set; None: not available."""

    fid: float
    """Fréchet distance of the extractor's features."""
    precision: float | None
    recall: float | None
    class_accuracy: float | None
    """Share read as the class wanted."""
    class_accuracy_interval: tuple[float, float] | None
    """95 % Wilson interval."""
    colour: dict[str, Mean]
    """Of the images themselves, by the names of ``colour.MEASURES``."""


def compare(
    reference: Reading | None, stored: Moments | None, images: Reading, k: int, extractor: Extractor
) -> Scores:
    """Score ``images``.

    Args:
        reference: real images; None: there are only their moments.
        stored: moments that come before the reference's own, as in ADM's evaluator.
        images: what to score.
        k: nearest neighbour for precision and recall.
        extractor: what read both.
    """
    correct, count = images.correct(extractor), len(images.features)
    if stored is not None:
        fid = frechet_from_moments(stored, moments(images.features))
    elif reference is not None:
        fid = frechet_distance(reference.features, images.features)
    else:
        raise ValueError("either a reference or its moments are needed")
    manifold = reference and precision_recall(reference.features, images.features, k=k, rule="adm")
    return Scores(
        fid=fid,
        precision=manifold.precision if manifold else None,
        recall=manifold.recall if manifold else None,
        class_accuracy=None if correct is None else correct / count,
        class_accuracy_interval=None if correct is None else wilson(correct, count),
        colour=colour_means(images.colour),
    )


def missing(scores: Scores, extractor: Extractor) -> dict[str, str]:
    """Why figures are not available, by their names."""
    reasons: dict[str, str] = {}
    if scores.precision is None:
        reasons |= dict.fromkeys(("precision", "recall"), NO_PICTURES)
    if scores.class_accuracy is None:
        reasons["class_accuracy"] = UNKNOWN_CLASSES if extractor.classify else NO_CLASSES
    return reasons


def table(
    scores: Scores, floor: Scores | None, reference: Reading | None, extractor: Extractor
) -> str:
    """A printed table: the figures of the images and the floor's, and what read them.

    The colours stand beside those of the ``reference`` itself.
    """
    rows = [("", "model", "real against real" if floor else "")]
    rows += zip(
        (f"FID ({extractor.name})", "precision", "recall", "class accuracy"),
        _cells(scores, extractor),
        _cells(floor, extractor) if floor else [""] * 4,
        strict=True,
    )
    real = colour_means(reference.colour) if reference else {}
    rows.append(("", "", "reference" if real else ""))
    for name, found in scores.colour.items():
        rows.append((name, _mean(found), _mean(real[name]) if real else ""))
    wide = max(16, *(len(row[0]) + 1 for row in rows))
    lines = [f"{name:{wide}}{a:>24}{b:>24}".rstrip() for name, a, b in rows]
    for name, reason in missing(scores, extractor).items():
        lines.append(f"{name.replace('_', ' ')}: not available, {reason}")
    lines.append(
        f"features: {extractor.name}, {extractor.num_features} wide, {extractor.preprocessing}\n"
        f"weights: sha256 {extractor.weights_sha256}"
    )
    return "\n".join(lines)


def _cells(scores: Scores, extractor: Extractor) -> list[str]:
    shares = [
        "-" if share is None else f"{share:.3f}" for share in (scores.precision, scores.recall)
    ]
    return [f"{max(scores.fid, 0.0):.4g}", *shares, _accuracy(scores, extractor)]


def _accuracy(scores: Scores, extractor: Extractor) -> str:
    if scores.class_accuracy is None or scores.class_accuracy_interval is None:
        return "unknown classes" if extractor.classify else "-"
    low, high = scores.class_accuracy_interval
    return f"{scores.class_accuracy:.1%} [{low:.1%}, {high:.1%}]"


def _mean(found: Mean) -> str:
    low, high = found.interval
    return f"{found.mean:.3g} [{low:.3g}, {high:.3g}]"


def conventions(k: int, stored: Moments | None) -> dict[str, Any]:
    """What was computed, word by word, to stand beside the figures."""
    source = "; the reference's mu and sigma as stored in its file" if stored else ""
    return {
        "features": "fp32, of pictures quantised to 8 bits",
        "fid": f"unbiased covariances in float64, trace by Cholesky and eigvalsh{source}",
        "precision_recall": {"k": k, "rule": "adm (distance <= radius)"},
        "floor": "real images against other real images, the same counts",
        "colour": "means over images: HSV S; std of BT.709 luma; share of pixels with a channel "
        "at 0 or 255; Hasler and Süsstrunk's M3 on 0 to 255",
        "interval": "95 %: Wilson for shares, Student's t for means over images",
    }

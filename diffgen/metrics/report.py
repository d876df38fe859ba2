"""The figures of one evaluation, each beside that of real images against real images."""

from dataclasses import dataclass
from typing import Any

from diffgen.metrics.frechet import frechet_distance
from diffgen.metrics.intervals import wilson
from diffgen.metrics.manifold import precision_recall
from diffgen.metrics.read import Reading


@dataclass(frozen=True)
class Scores:
    """Figures of one set of images against a reference set."""

    fid: float
    """Fréchet distance of the reader's features."""
    precision: float
    recall: float
    class_accuracy: float | None
    """Share read as the class wanted; None where the reader does not know the classes."""
    class_accuracy_interval: tuple[float, float] | None
    """95 % Wilson interval."""


def compare(reference: Reading, images: Reading, k: int) -> Scores:
    """Score ``images`` against ``reference``."""
    correct, count = images.correct(), len(images.features)
    manifold = precision_recall(reference.features, images.features, k=k, rule="adm")
    return Scores(
        fid=frechet_distance(reference.features, images.features),
        precision=manifold.precision,
        recall=manifold.recall,
        class_accuracy=None if correct is None else correct / count,
        class_accuracy_interval=None if correct is None else wilson(correct, count),
    )


def table(model: Scores, floor: Scores) -> str:
    """A printed table: the model's figures and the floor's."""
    rows = [
        ("FID (reader)", f"{model.fid:.2f}", f"{floor.fid:.2f}"),
        ("precision", f"{model.precision:.3f}", f"{floor.precision:.3f}"),
        ("recall", f"{model.recall:.3f}", f"{floor.recall:.3f}"),
        ("class accuracy", _share(model), _share(floor)),
    ]
    lines = [f"{'':16}{'model':>24}{'real against real':>24}"]
    lines += [f"{name:16}{a:>24}{b:>24}" for name, a, b in rows]
    return "\n".join(lines)


def _share(scores: Scores) -> str:
    if scores.class_accuracy is None or scores.class_accuracy_interval is None:
        return "unknown classes"
    low, high = scores.class_accuracy_interval
    return f"{scores.class_accuracy:.1%} [{low:.1%}, {high:.1%}]"


def conventions(k: int) -> dict[str, Any]:
    """What was computed, word by word, to stand beside the figures."""
    return {
        "extractor": "diffgen reader, 64 features after global pooling, fp32",
        "fid": "unbiased covariances in float64, trace by Cholesky and eigvalsh",
        "precision_recall": {"k": k, "rule": "adm (distance <= radius)"},
        "floor": "held-out real images against other real images, the same counts",
        "interval": "95 % Wilson",
    }

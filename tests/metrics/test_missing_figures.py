"""What there is no figure or no interval of is told, with the reason."""

import pytest
import torch

from diffgen.config.scoring import ScoringConfig
from diffgen.metrics.figures import figures
from diffgen.metrics.moments import Moments, moments
from tests.metrics.readings import (
    by_class,
    extractor,
    reading,
    sides,
    stored,
)


@pytest.mark.parametrize("count", [2, 3])
def test_too_few_images_for_groups_are_told_and_scored(count):
    config = ScoringConfig(k=1, density_k=1)
    found = figures(sides(reading(count, 1), reading(80, 2), config=config))
    assert found.notes[0] == f"{count} images are too few for the jackknife, 4 would do"
    for name in ("fid", "kid", "cmmd", "precision", "density"):
        assert found.scores[name] is not None
        assert found.intervals[name] is None
    unasked = figures(sides(reading(count, 1), reading(80, 2), config=config, intervals=False))
    assert unasked.scores == found.scores
    assert not any("jackknife" in note for note in unasked.notes)
    assert "more images than features" in found.missing["fid_infinity"]
    assert found.missing["inception_score"] == "its 10 splits need as many images"


def test_a_manifold_without_intervals_says_why():
    found = figures(sides(reading(5, 1), reading(80, 2)))
    note = next(note for note in found.notes if note.startswith("precision"))
    assert "k = 3 needs more than 3 without any group (2 are left)" in note
    assert found.scores["precision"] is not None
    assert found.intervals["precision"] is None
    few = figures(sides(reading(40, 1), reading(4, 2)))
    assert "k = 5 more real ones (4)" in next(n for n in few.notes if n.startswith("precision"))
    assert few.missing["density"] == "k = 5 needs more real images than 4"
    fewer = figures(sides(reading(40, 1), reading(3, 2)))
    assert fewer.missing["precision"] == "k = 3 needs more real images than 3"


def test_low_rank_is_told_of_either_distance():
    found = figures(sides(reading(8, 1), reading(80, 2)))
    assert any(note.startswith("sFID: 8 images are too few for 9 features") for note in found.notes)
    assert not any(note.startswith("FID:") for note in found.notes)
    found = figures(sides(reading(6, 1), reading(80, 2)))
    assert any(note.startswith("FID: 6 images are too few for 6 features") for note in found.notes)
    reason = "the 1/N law needs more images than features, 6 are not more than 6"
    assert found.missing["fid_infinity"] == reason


def test_statistics_of_few_images_have_no_distance_at_infinity():
    few = reading(5, 3).layers["net"]["features"]
    found = figures(sides(reading(90, 1), None, stored=stored(features=moments(few))))
    reason = "the 1/N law needs more images than features, 5 are not more than 6"
    assert found.missing["fid_infinity"] == reason
    assert any("5 real images are too few for 6 features" in note for note in found.notes)
    known = moments(reading(90, 3).layers["net"]["features"])
    unstated = Moments(None, known.mean, known.cov)
    found = figures(sides(reading(90, 1), None, stored=stored(features=unstated)))
    assert found.scores["fid_infinity"] is not None


def test_a_network_lacks_what_its_layers_do_not_give():
    images = reading(90, 1)
    for name in ("spatial", "logits", "embedding"):
        del images.layers["net"][name]
    found = figures(sides(images, reading(80, 2), extractor=extractor()))
    assert found.missing == {
        "sfid": "net has no spatial layer; inception has",
        "inception_score": "net gives no logits",
        "cmmd": "net is no CLIP model",
        "class_accuracy": "net knows no classes",
    }


def test_class_accuracy_says_whether_labels_or_classes_are_unknown():
    real = reading(80, 2)
    accuracy = figures(sides(by_class(80), real))
    assert accuracy.scores["class_accuracy"] == 1
    for labels, reason in (
        (torch.full((80,), -1), "the images have no labels"),
        (torch.arange(80) % 4 - (torch.arange(80) == 0).long(), "1 of 80 images have no label"),
        (torch.full((80,), 4), "net does not know all of the classes"),
    ):
        found = figures(sides(reading(80, 1, labels), real))
        assert found.missing["class_accuracy"] == reason

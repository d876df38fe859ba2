"""All figures of one network: what is compared with what, and by which groups."""

import math

import pytest
import torch

from diffgen.config.scoring import ScoringConfig
from diffgen.metrics.class_score import inception_score
from diffgen.metrics.figures import figures
from diffgen.metrics.frechet import frechet_distance
from diffgen.metrics.frechet_jackknife import frechet_interval
from diffgen.metrics.infinity import fid_infinity
from diffgen.metrics.jackknife import deal
from diffgen.metrics.kernel import cmmd_interval, kernel_distance_interval
from diffgen.metrics.moments import moments
from diffgen.metrics.read import Reading
from diffgen.metrics.report import conventions
from diffgen.metrics.shown import NAMES
from tests.metrics.readings import (
    CLASSES,
    WIDTHS,
    by_class,
    reading,
    scored,
    sides,
    stored,
)


def test_every_figure_is_that_of_its_function_with_its_interval():
    images, real = reading(90, 1), reading(80, 2)
    found = figures(sides(images, real))
    assert list(found.scores) == list(NAMES)
    assert found.missing == {}
    assert found.notes == []
    groups = deal(90)
    ours, theirs = images.layers["net"], real.layers["net"]
    pairs = {layer: (theirs[layer], ours[layer]) for layer in WIDTHS}
    expected = {
        "fid": frechet_interval(*pairs["features"], groups),
        "sfid": frechet_interval(*pairs["spatial"], groups),
        "fid_infinity": fid_infinity(*pairs["features"], groups),
        "kid": kernel_distance_interval(*pairs["features"], groups),
        "cmmd": cmmd_interval(*pairs["embedding"], groups),
    }
    for name, estimate in expected.items():
        assert found.scores[name] == pytest.approx(estimate.value, rel=1e-12), name
        assert found.intervals[name] == pytest.approx(estimate.interval, rel=1e-9), name
    assert all(found.intervals[name] is not None for name in NAMES)


def test_without_intervals_the_figures_are_the_same():
    images, real = reading(90, 1), reading(80, 2)
    wanted, found = (figures(sides(images, real, intervals=flag)) for flag in (True, False))
    del wanted.scores["fid_infinity"], found.scores["fid_infinity"]
    assert found.scores == pytest.approx(wanted.scores, rel=1e-12)
    assert found.missing["fid_infinity"] == "it was not asked for (intervals no)"
    for name in ("fid", "sfid", "kid", "cmmd", "precision", "density"):
        assert found.intervals[name] is None


def test_stored_moments_come_first_and_a_layer_they_lack_is_told():
    """Images kept beside the moments of a whole set do not stand in for it."""
    images, real = reading(90, 1), reading(80, 2)
    whole = reading(500, 3).layers["net"]
    given = sides(images, real, stored=stored(features=moments(whole["features"])))
    found = figures(given)
    expected = frechet_distance(whole["features"], images.layers["net"]["features"])
    assert found.scores["fid"] == pytest.approx(expected, rel=1e-9)
    assert found.scores["sfid"] is None
    assert found.missing == {"sfid": "the reference holds statistics, but none of this layer"}
    alone = figures(sides(images, None, stored=stored(spatial=moments(whole["spatial"]))))
    assert alone.missing["fid"] == alone.missing["fid_infinity"] == found.missing["sfid"]
    assert alone.scores["sfid"] is not None
    assert alone.missing["kid"] == "the reference holds statistics, but no images"
    nothing = figures(sides(images, None)).missing["fid"]
    assert nothing == "the reference holds no statistics of net, and no images"


def test_splits_in_order_are_adms_chunks_in_the_order_of_the_source(monkeypatch):
    images = by_class(80)
    order = torch.randperm(80, generator=torch.Generator().manual_seed(0))
    mixed = Reading(
        {"net": {name: rows[order] for name, rows in images.layers["net"].items()}},
        *(images.labels[order], CLASSES, images.colour, images.pictures),
    )
    back, config = order.argsort(), ScoringConfig(splits="in_order")
    given = sides(mixed, reading(80, 2), config=config, order=back)
    found = figures(given)
    assert found.scores["inception_score"] == pytest.approx(4)  # one chunk has all classes
    assert found.intervals["inception_score"] is None
    assert found.notes == ["Inception score: 80 images are one chunk, no interval"]
    monkeypatch.setattr("diffgen.metrics.figures.SPLIT_SIZE", 30)
    found = figures(given)
    expected = inception_score(images.layers["net"]["logits"], split_size=30)
    assert expected.chunks == 3
    assert found.scores["inception_score"] == pytest.approx(expected.mean)
    assert found.intervals["inception_score"] is not None
    floor = scored(mixed, floor=mixed, config=config, order=back).seen[0].floor
    unsorted = inception_score(mixed.layers["net"]["logits"], split_size=30).mean
    assert floor.scores["inception_score"] == pytest.approx(unsorted)
    assert abs(unsorted - expected.mean) > 0.5


def test_groups_share_the_classes_where_these_were_fixed():
    labels = torch.arange(4).repeat_interleave(25)
    given = [sides(reading(100, 1, labels), None, balanced=flag) for flag in (True, False)]
    fixed, drawn = (
        torch.stack([one.groups(100)[labels == c].bincount(minlength=20) for c in range(4)])
        for one in given
    )
    assert (fixed.amax(1) - fixed.amin(1)).max() == 1
    assert (drawn.amax(1) - drawn.amin(1)).max() > 1
    first = given[0].groups(40, 10)  # as the first images alone, where only they are used
    assert first.shape == (40,)
    assert first.bincount().tolist() == [4] * 10


def test_a_set_against_its_copy_decides_nothing_by_a_width_of_0():
    """Density is 1 whichever copies are left out, so its interval is not known."""
    real = reading(60, 2)
    labels = torch.arange(120) % 4
    layers = {name: rows.repeat(2, 1) for name, rows in real.layers["net"].items()}
    twice = Reading({"net": layers}, labels, CLASSES, torch.zeros(120, 4), real.pictures)
    report = scored(twice, reference=real, floor=None)
    assert report.colour.scores["saturation"] == 0
    assert report.colour.intervals["saturation"] is None
    found = report.seen[0].images
    for name, interval in found.intervals.items():
        assert interval is None or math.isinf(interval[1]) or interval[0] < interval[1], name


def test_conventions_name_what_the_counts_cut():
    found = conventions(ScoringConfig(manifold_images=50), stored=True)
    for name in ("precision_recall", "density_coverage", "authenticity", "copied"):
        assert found[name]["images"] == 50
    assert "moments where it has any of the network, else its images" in found["fid"]
    assert "10 splits" in conventions(ScoringConfig(), stored=False)["inception_score"]
    in_order = conventions(ScoringConfig(splits="in_order"), stored=False)
    assert "5,000 images in the order" in in_order["inception_score"]

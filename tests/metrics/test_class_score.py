"""The Inception score against torch-fidelity and closed forms."""

import pytest
import torch
from torch import Tensor
from torch_fidelity.metric_isc import isc_features_to_metric

from diffgen.metrics.class_score import InceptionScore, inception_score


def random_logits(count: int, classes: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(count, classes, generator=generator)


@pytest.mark.parametrize("count", [100, 107])  # 107: chunks of 10 and 11
@pytest.mark.parametrize("splits", [1, 10])
@pytest.mark.parametrize("shuffle_seed", [None, 2020, 3])
def test_agrees_with_torch_fidelity(count, splits, shuffle_seed):
    logits = random_logits(count, 12, 0)
    expected = isc_features_to_metric(
        logits, splits, shuffle=shuffle_seed is not None, rng_seed=shuffle_seed
    )
    found = inception_score(logits, splits=splits, shuffle_seed=shuffle_seed)
    assert found.mean == pytest.approx(expected["inception_score_mean"], rel=1e-12)
    assert found.std == pytest.approx(expected["inception_score_std"], rel=1e-9, abs=1e-12)


def test_certain_and_balanced_predictions_score_the_number_of_classes():
    """Logits of 1000: every other probability underflows to 0, where 0 log 0 must be 0."""
    logits = 1000 * torch.eye(7).repeat(20, 1)
    found = inception_score(logits, splits=10)
    assert (found.mean, found.std) == (pytest.approx(7, rel=1e-12), pytest.approx(0, abs=1e-12))


def test_a_class_that_no_image_has_adds_nothing():
    logits = torch.cat([1000 * torch.eye(3), torch.full((3, 2), -1000.0)], 1)
    assert inception_score(logits, splits=1).mean == pytest.approx(3, rel=1e-12)


def test_equal_predictions_score_one():
    found = inception_score(random_logits(1, 9, 1).expand(30, -1))
    assert (found.mean, found.std) == (pytest.approx(1, rel=1e-12), pytest.approx(0, abs=1e-12))


def test_a_file_sorted_by_class_scores_low_until_it_is_shuffled():
    logits = 1000 * torch.eye(10).repeat_interleave(50, 0)
    assert inception_score(logits, splits=10) == InceptionScore(1.0, 0.0, 10)
    assert inception_score(logits, splits=10, shuffle_seed=2020).mean > 8
    assert inception_score(logits, splits=1).mean == pytest.approx(10, rel=1e-12)


def test_every_image_counts_once_when_chunks_are_unequal():
    """Five images in two chunks: two of the first, three of the second."""
    logits = 1000 * torch.eye(3)[[0, 1, 0, 1, 2]]
    found = inception_score(logits, splits=2)
    assert (found.mean, found.std) == (pytest.approx(2.5), pytest.approx(0.5))


def test_chunks_of_one_size_are_cut_in_order_and_the_last_holds_the_rest():
    """As guided-diffusion's evaluator: range(0, N, split_size)."""
    logits = random_logits(23, 6, 3)
    found = inception_score(logits, split_size=10)
    pieces = [inception_score(rows, splits=1).mean for rows in logits.split([10, 10, 3])]
    assert found.mean == pytest.approx(sum(pieces) / 3, rel=1e-12)
    assert found.chunks == 3
    assert inception_score(logits[:20], split_size=10) == inception_score(logits[:20], splits=2)
    assert inception_score(logits, split_size=5000) == inception_score(logits, splits=1)
    assert inception_score(logits[:3], split_size=5000).chunks == 1  # fewer than 10 images


def test_the_estimate_is_students_over_chunks():
    found = inception_score(random_logits(100, 12, 4))
    estimate = found.estimate()
    assert estimate.value == found.mean
    assert estimate.standard_error == pytest.approx(found.std / 3)
    half = 2.2621572 * found.std / 3  # t of 9 degrees
    assert estimate.interval == pytest.approx((found.mean - half, found.mean + half))


def test_one_chunk_or_equal_ones_have_no_interval():
    assert inception_score(random_logits(30, 5, 5), splits=1).estimate().interval is None
    assert inception_score(1000 * torch.eye(7).repeat(20, 1)).estimate().interval is None


def test_arithmetic_is_float64_whatever_the_dtype():
    logits = random_logits(40, 6, 2).half()
    assert inception_score(logits) == inception_score(logits.double())


@pytest.mark.parametrize(
    ("logits", "splits", "message"),
    [
        (torch.zeros(9, 3), 10, "logits needs at least 10 rows, got 9"),
        (torch.zeros(9, 3), 0, "splits must be at least 1, got 0"),
        (torch.zeros(9), 1, r"logits must be \(N, D\)"),
        (torch.zeros(9, 3).long(), 1, "logits must be floating point"),
        (torch.full((9, 3), torch.nan), 1, "logits holds NaN"),
    ],
)
def test_unusable_logits_are_refused(logits, splits, message):
    with pytest.raises(ValueError, match=message):
        inception_score(logits, splits=splits)


def test_a_chunk_of_no_rows_is_refused():
    with pytest.raises(ValueError, match="split_size must be at least 1, got 0"):
        inception_score(torch.zeros(9, 3), split_size=0)

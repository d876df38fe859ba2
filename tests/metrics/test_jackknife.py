"""The jackknife against closed forms: means, the plug-in variance, a bias of exactly b / n."""

import math

import pytest
import torch
from torch import Tensor

from diffgen.metrics.jackknife import deal, jackknife

SIZES = [7, 3, 5, 9]


def values(count: int, seed: int) -> Tensor:
    return torch.randn(
        count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    ).exp()


def shares(sizes: list[int]) -> list[float]:
    return [size / sum(sizes) for size in sizes]


def leaving_out(x: Tensor, sizes: list[int]) -> list[Tensor]:
    pieces = x.split(sizes)
    return [torch.cat([*pieces[:g], *pieces[g + 1 :]]) for g in range(len(pieces))]


def test_groups_of_one_give_the_standard_error_of_a_mean():
    x = values(30, 0)
    replicates = [rest.mean().item() for rest in leaving_out(x, [1] * 30)]
    found = jackknife(x.mean().item(), replicates, shares([1] * 30))
    assert found.corrected == pytest.approx(x.mean().item(), rel=1e-12)
    assert found.standard_error == pytest.approx(x.std().item() / math.sqrt(30), rel=1e-10)


def test_unequal_groups_of_a_mean_count_by_their_size():
    """Here p_g is the group's own mean."""
    x = values(24, 1)
    replicates = [rest.mean().item() for rest in leaving_out(x, SIZES)]
    found = jackknife(x.mean().item(), replicates, shares(SIZES))
    expected = sum(
        (piece.mean() - x.mean()) ** 2 * len(piece) / (24 - len(piece)) for piece in x.split(SIZES)
    )
    assert found.corrected == pytest.approx(x.mean().item(), rel=1e-12)
    assert found.standard_error == pytest.approx(math.sqrt(expected / 4), rel=1e-10)


def test_equal_groups_give_the_usual_formula():
    replicates = [1.0, 1.5, 0.7, 1.1, 1.3]
    found = jackknife(1.2, replicates, [0.2] * 5)
    mean = sum(replicates) / 5
    variance = 4 / 5 * sum((value - mean) ** 2 for value in replicates)
    assert found.standard_error == pytest.approx(math.sqrt(variance), rel=1e-12)
    assert found.corrected == pytest.approx(5 * 1.2 - 4 * mean, rel=1e-12)


def test_the_plug_in_variance_becomes_unbiased():
    x = values(25, 2)
    replicates = [rest.var(correction=0).item() for rest in leaving_out(x, [1] * 25)]
    found = jackknife(x.var(correction=0).item(), replicates, shares([1] * 25))
    assert found.corrected == pytest.approx(x.var().item(), rel=1e-10)


def test_a_bias_of_one_over_n_goes_whatever_the_sizes():
    replicates = [3 + 7 / (24 - size) for size in SIZES]
    found = jackknife(3 + 7 / 24, replicates, shares(SIZES))
    assert found.corrected == pytest.approx(3, rel=1e-12)


def test_the_interval_is_students():
    low, high = jackknife(1.0, [0.9, 1.1], [0.5, 0.5]).interval(2.0)
    assert (high + low) / 2 == pytest.approx(2.0)
    assert (high - low) / 2 == pytest.approx(12.7062 * 0.1, rel=1e-5)  # t with 1 degree of freedom


def test_groups_are_dealt_evenly_and_across_classes():
    groups = deal(103, 10, seed=3)
    assert groups.bincount().tolist() == [11] * 3 + [10] * 7
    assert torch.equal(groups, deal(103, 10, seed=3))
    assert not torch.equal(groups, deal(103, 10, seed=4))
    classes = torch.arange(1000) % 10
    assert all(len(classes[deal(1000, 10) == g].unique()) > 5 for g in range(10))


def test_unusable_input_is_refused():
    with pytest.raises(ValueError, match="same length, at least 2, got 3 and 2"):
        jackknife(1.0, [1.0, 2.0, 3.0], [0.5, 0.5])
    with pytest.raises(ValueError, match="at least 2, got 1 and 1"):
        jackknife(1.0, [1.0], [1.0])
    with pytest.raises(ValueError, match=r"add up to 1, got \[0.5, 0.4\]"):
        jackknife(1.0, [1.0, 2.0], [0.5, 0.4])
    with pytest.raises(ValueError, match="from 2 to 15 for 30 rows, got 20"):
        deal(30, 20)

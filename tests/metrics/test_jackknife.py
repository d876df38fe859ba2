"""The jackknife against closed forms: means, the plug-in variance, a bias of exactly b / n."""

import math

import pytest
import torch
from torch import Tensor

from diffgen.metrics.jackknife import Groups, deal, jackknife

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
    found = jackknife(1.0, [0.8, 1.0], [0.5, 0.5])
    assert found.corrected == pytest.approx(1.1)
    for estimate, centre in ((found.estimate(), 1.0), (found.corrected_estimate(), 1.1)):
        low, high = estimate.interval
        assert estimate.value == pytest.approx(centre)
        assert (high + low) / 2 == pytest.approx(centre)
        assert estimate.standard_error == pytest.approx(0.1)
        assert (high - low) / 2 == pytest.approx(1.27062, rel=1e-5)  # t with 1 degree of freedom


@pytest.mark.parametrize("value", [0.0, 1.0, 1 / 3])
def test_replicates_that_do_not_vary_leave_no_interval(value):
    """An interval without width would be certain of what nothing is known about."""
    found = jackknife(value, [value] * 7, [1 / 7] * 7).estimate()
    assert found.standard_error == pytest.approx(0, abs=1e-15)
    assert found.interval is None


def test_groups_are_dealt_evenly_and_across_classes():
    groups = deal(103, 10, seed=3)
    assert groups.bincount().tolist() == [11] * 3 + [10] * 7
    assert torch.equal(groups, deal(103, 10, seed=3))
    assert not torch.equal(groups, deal(103, 10, seed=4))
    classes = torch.arange(1000) % 10
    assert all(len(classes[deal(1000, 10) == g].unique()) > 5 for g in range(10))


def test_there_are_fewer_groups_of_few_rows():
    assert deal(100).unique().tolist() == list(range(20))
    assert deal(39).bincount().tolist() == [3] + [2] * 18
    assert deal(5).bincount().tolist() == [3, 2]


def test_strata_are_shared_out_evenly():
    classes = torch.arange(3).repeat_interleave(torch.tensor([50, 20, 7]))
    groups = deal(77, 5, seed=1, strata=classes)
    of_class = torch.stack([groups[classes == c].bincount(minlength=5) for c in range(3)])
    assert (of_class.amax(1) - of_class.amin(1)).tolist() == [0, 0, 1]
    assert sorted(groups.bincount().tolist()) == [15, 15, 15, 16, 16]
    assert not torch.equal(groups, deal(77, 5, seed=2, strata=classes))


def test_classes_fixed_beforehand_are_no_scatter_in_groups_that_share_them():
    """A mean of two classes that differ by 100, as many images of each whatever was drawn."""
    classes = torch.arange(2).repeat(200)
    x = 100.0 * classes + values(400, 5)

    def error(groups: Tensor) -> float:
        replicates = [x[groups != g].mean().item() for g in range(20)]
        return jackknife(x.mean().item(), replicates, [1 / 20] * 20).standard_error

    within = torch.cat([x[classes == c] - x[classes == c].mean() for c in range(2)])
    expected = within.std().item() / 400**0.5
    assert error(deal(400, strata=classes)) == pytest.approx(expected, rel=0.4)
    assert error(deal(400)) > 10 * expected


def test_groups_are_numbered_in_the_order_of_their_names():
    groups = Groups.of(torch.tensor([90, -3, 7, 90, 7, 7]), 6)
    assert groups.number.tolist() == [2, 0, 1, 2, 1, 1]
    assert groups.sizes == [1, 3, 2]
    assert groups.shares == pytest.approx([1 / 6, 3 / 6, 2 / 6])


def test_unusable_groups_are_refused():
    with pytest.raises(ValueError, match=r"groups must be \(4,\) int64, one a row, got \(3,\)"):
        Groups.of(torch.tensor([0, 1, 0]), 4)
    with pytest.raises(ValueError, match=r"\(4,\) int64, one a row, got \(4,\) torch.float32"):
        Groups.of(torch.zeros(4), 4)
    with pytest.raises(ValueError, match=r"at least 2, .* got sizes \[4\] of 4 rows"):
        Groups.of(torch.zeros(4, dtype=torch.int64), 4)
    with pytest.raises(ValueError, match=r"leaving 3 rows or more, got sizes \[2, 2\] of 4 rows"):
        Groups.of(torch.tensor([0, 1, 0, 1]), 4, left=3)


def test_unusable_input_is_refused():
    with pytest.raises(ValueError, match="same length, at least 2, got 3 and 2"):
        jackknife(1.0, [1.0, 2.0, 3.0], [0.5, 0.5])
    with pytest.raises(ValueError, match="at least 2, got 1 and 1"):
        jackknife(1.0, [1.0], [1.0])
    with pytest.raises(ValueError, match=r"add up to 1, got \[0.5, 0.4\]"):
        jackknife(1.0, [1.0, 2.0], [0.5, 0.4])
    with pytest.raises(ValueError, match="num_groups must be at least 2, got 1"):
        deal(30, 1)
    with pytest.raises(ValueError, match="two groups need at least 4 rows, got 3"):
        deal(3)

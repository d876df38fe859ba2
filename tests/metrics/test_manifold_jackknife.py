"""Replicates against recomputation, intervals against their formula and against repeated draws."""

from statistics import fmean

import numpy as np
import pytest
import torch
from scipy.stats import t
from torch import Tensor

from diffgen.metrics.intervals import wilson
from diffgen.metrics.manifold import density_coverage, precision_recall
from diffgen.metrics.manifold_jackknife import ManifoldFigures, manifold_figures

NAMES = ("precision", "recall", "density", "coverage")


def points(count: int, size: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, size, generator=generator, dtype=torch.float64)


def clustered(groups: Tensor, size: int, seed: int) -> Tensor:
    """A place of its own for each group: all near neighbours of a point are of its own group."""
    return 0.7 * points(len(groups), size, seed) + 3 * points(20, size, seed + 1)[groups]


def values(real: Tensor, fake: Tensor, k: int, rule, density_k: int) -> list[float]:
    overlap, cover = precision_recall(real, fake, k, rule), density_coverage(real, fake, density_k)
    return [overlap.precision, overlap.recall, cover.density, cover.coverage]


def figures(found: ManifoldFigures):
    return [getattr(found, name) for name in NAMES]


@pytest.mark.parametrize("rule", ["adm", "strict"])
@pytest.mark.parametrize(("k", "density_k"), [(3, 5), (5, 2), (1, 1)])
@pytest.mark.parametrize("make", [clustered, lambda groups, *rest: points(len(groups), *rest)])
def test_replicates_are_the_figures_of_the_remaining_fakes(make, rule, k, density_k):
    """Groups of unequal sizes, out of order, named with gaps."""
    groups = torch.randint(0, 6, (130,), generator=torch.Generator().manual_seed(0)).square()
    groups = torch.where(groups == 25, 19, groups)
    real, fake = 1.5 * points(90, 4, 1), make(groups, 4, 2)
    found = manifold_figures(real, fake, k, rule, density_k, groups=groups, block_size=32)
    whole = values(real, fake, k, rule, density_k)
    assert [one.value for one in figures(found)] == whole
    without = [values(real, fake[groups != name], k, rule, density_k) for name in groups.unique()]
    assert [one.replicates for one in figures(found)] == list(zip(*without, strict=True))
    assert len(set(without[0])) > 1


def test_a_replicate_holds_what_copies_in_its_group_kept_out():
    """Fakes doubled across two groups: without one of them the balls are those of the other."""
    real, fake = points(60, 3, 3), points(50, 3, 4)
    groups = torch.arange(2).repeat_interleave(50)
    found = manifold_figures(real, fake.repeat(2, 1), groups=groups)
    assert found.recall.replicates == (precision_recall(real, fake).recall,) * 2
    assert found.recall.value < found.recall.replicates[0]


@pytest.mark.parametrize("block_size", [1, 17, 500])
def test_blocks_and_the_order_of_the_fakes_change_nothing(block_size):
    real, fake, groups = points(40, 4, 5), points(60, 4, 6), torch.arange(60) % 7
    expected = manifold_figures(real, fake, groups=groups)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(7))
    found = manifold_figures(real, fake[order], groups=groups[order], block_size=block_size)
    assert found == expected


def test_intervals_are_students_about_the_value():
    found = manifold_figures(2 * points(80, 4, 8), points(100, 4, 9))
    for one in figures(found):
        assert len(one.replicates) == 10
        deviations = np.array(one.replicates) - fmean(one.replicates)
        error = (9 / 10 * (deviations**2).sum()) ** 0.5
        assert one.standard_error == pytest.approx(error, rel=1e-9)
        low, high = one.value - t.ppf(0.975, 9) * error, one.value + t.ppf(0.975, 9) * error
        assert one.interval[0] <= max(0, low) + 1e-9
        assert one.interval[1] >= min(1, high) - 1e-9
    density = found.density
    half = t.ppf(0.975, 9) * density.standard_error
    assert density.interval == pytest.approx((density.value - half, density.value + half))


def test_a_share_of_1_in_all_replicates_has_wilsons_interval():
    real = points(30, 3, 10)
    found = manifold_figures(real, real.repeat(2, 1))
    assert found.precision.value == 1
    assert found.precision.standard_error == 0
    assert found.precision.interval == pytest.approx(wilson(60, 60))
    assert found.coverage.interval[0] <= wilson(30, 30)[0]


def test_a_density_that_does_not_vary_has_no_interval():
    """Copies of all reals in every group: a density of 1 whichever group is left out."""
    real = points(30, 3, 10)
    groups = torch.arange(4).repeat_interleave(30)
    density = manifold_figures(real, real.repeat(4, 1), groups=groups).density
    assert (density.value, density.standard_error, density.interval) == (1, 0, None)
    nowhere = manifold_figures(real, real.repeat(4, 1) + 1000).density
    assert (nowhere.value, nowhere.interval) == (0, None)


def test_shares_end_where_wilsons_interval_does_or_farther():
    found = manifold_figures(points(70, 3, 11), points(90, 3, 12) + 0.5)
    for one, count in ((found.precision, 90), (found.recall, 70), (found.coverage, 70)):
        low, high = wilson(round(one.value * count), count)
        assert 0 <= one.interval[0] <= low < one.value < high <= one.interval[1] <= 1


def test_intervals_hold_the_mean_of_repeated_draws():
    """A fixed reference; 40 draws of fakes against the mean of 300 others.

    An interval of 95 % holds fewer than 34 of 40 with probability 0.003. Of 400 draws these held
    96 to 99 %: the ends of Wilson's interval and the cut at 0 and 1 make them cautious.
    """
    real = points(120, 3, 13)

    def draw(seed: int) -> Tensor:
        return 0.9 * points(120, 3, 1000 + seed) + 0.1

    truth = np.mean([values(real, draw(i), 3, "adm", 5) for i in range(300)], 0)
    held = np.zeros(4)
    for i in range(40):
        found = figures(manifold_figures(real, draw(500 + i)))
        pairs = zip(found, truth, strict=True)
        held += [one.interval[0] <= mean <= one.interval[1] for one, mean in pairs]
    assert (held >= 34).all(), dict(zip(NAMES, held, strict=True))


def test_default_groups_are_always_the_same_and_fewer_for_few_fakes():
    real, fake = points(30, 3, 14), points(12, 3, 15)
    found = manifold_figures(real, fake)
    assert len(found.density.replicates) == 6
    assert manifold_figures(real, fake) == found


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": 6}, "k must be from 1 to 5 for 6 points, got 6"),
        ({"density_k": 0}, "density_k must be from 1 to 5 for 6 points, got 0"),
        ({"rule": "tf"}, "rule must be one of .*'adm', 'strict'.*, got 'tf'"),
        ({"block_size": 0}, "block_size must be at least 1, got 0"),
        ({"fake": torch.zeros(3, 2)}, "fake needs at least 4 rows, got 3"),
        ({"groups": torch.zeros(7)}, r"groups must be \(8,\) int64, .* \(7,\) torch.float32"),
        ({"groups": torch.zeros(8).long()}, r"groups must be at least 2, .* sizes \[8\] of 8"),
        ({"groups": torch.arange(8) // 6}, r"leaving 3 rows or more, got sizes \[6, 2\] of 8"),
    ],
)
def test_unusable_arguments_are_refused(change, message):
    arguments = {
        **{"real": torch.zeros(6, 2), "fake": torch.zeros(8, 2), "k": 2, "density_k": 2},
        **{"groups": torch.arange(8) % 4, **change},
    }
    with pytest.raises(ValueError, match=message):
        manifold_figures(**arguments)

"""The interval of a Fréchet distance against leaving groups out by hand, and against draws."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from diffgen.metrics.frechet import frechet_distance, frechet_from_moments
from diffgen.metrics.frechet_jackknife import LeaveOneOut, frechet_interval
from diffgen.metrics.jackknife import Groups, jackknife
from diffgen.metrics.moments import moments


def normal(count: int, size: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(size, size, generator=generator, dtype=torch.float64)
    return torch.randn(count, size, generator=generator, dtype=torch.float64) @ mixing + 0.1 * seed


def by_hand(real: Tensor, fake: Tensor, groups: Tensor) -> float:
    """Standard error from a distance anew for each group."""
    names, sizes = groups.unique(return_counts=True)
    replicates = [frechet_distance(real, fake[groups != name]) for name in names]
    shares = (sizes.double() / len(fake)).tolist()
    return jackknife(frechet_distance(real, fake), replicates, shares).standard_error


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), num_groups=st.integers(2, 6))
def test_what_is_left_has_the_moments_of_the_other_rows(seed, num_groups):
    features = normal(60, 5, seed) + 1e4  # a mean that would cost digits if it were squared
    generator = torch.Generator().manual_seed(seed)
    groups = torch.cat(
        [torch.arange(num_groups), torch.randint(num_groups, (60,), generator=generator)]
    )[:60]
    sets = LeaveOneOut(features, Groups.of(groups, 60))
    for g in range(num_groups):
        found, expected = sets.without(g).moments, moments(features[groups != g])
        assert found.count == expected.count
        torch.testing.assert_close(found.mean, expected.mean, rtol=1e-12, atol=0)
        torch.testing.assert_close(found.cov, expected.cov, rtol=1e-8, atol=1e-8)


def full_rank() -> tuple[Tensor, Tensor]:
    return normal(80, 6, 1), normal(70, 6, 2)


def fewer_fakes_than_features() -> tuple[Tensor, Tensor]:
    return normal(80, 32, 3), normal(20, 32, 4)


def full_rank_until_a_group_is_left_out() -> tuple[Tensor, Tensor]:
    return normal(80, 20, 5), normal(24, 20, 6)


def fewer_reals_than_features() -> tuple[Tensor, Tensor]:
    return normal(15, 32, 7), normal(80, 32, 8)


def dead_feature() -> tuple[Tensor, Tensor]:
    return tuple(torch.nn.functional.pad(x, (0, 1)) for x in full_rank())


def repeated_images() -> tuple[Tensor, Tensor]:
    return normal(80, 6, 9), normal(5, 6, 10).repeat(14, 1)


@pytest.mark.parametrize(
    "sets",
    [
        full_rank,
        fewer_fakes_than_features,
        full_rank_until_a_group_is_left_out,
        fewer_reals_than_features,
        dead_feature,
        repeated_images,
    ],
)
def test_figures_are_those_of_distances_taken_anew(sets):
    real, fake = sets()
    groups = torch.arange(len(fake)) // 9  # the last group is smaller
    found = frechet_interval(real, fake, groups)
    assert found.value == pytest.approx(frechet_distance(real, fake), abs=1e-9)
    assert found.standard_error == pytest.approx(by_hand(real, fake, groups), rel=1e-6)
    assert found.interval[0] < found.value < found.interval[1]


def test_a_feature_that_only_one_group_has_leaves_low_rank():
    real, fake = full_rank()
    groups = torch.arange(70) % 5
    fake[groups != 2, 3] = 1.0
    found = frechet_interval(real, fake, groups)
    assert found.standard_error == pytest.approx(by_hand(real, fake, groups), rel=1e-6)


def test_stored_moments_give_the_figures_of_their_features():
    real, fake = full_rank()
    found, expected = (frechet_interval(one, fake, seed=1) for one in (moments(real), real))
    assert found.value == pytest.approx(frechet_from_moments(moments(real), moments(fake)))
    assert found.standard_error == pytest.approx(expected.standard_error, rel=1e-9)


def test_names_of_groups_do_not_matter():
    real, fake = full_rank()
    groups = torch.arange(70) % 4
    renamed = torch.tensor([90, -3, 7, 8])[groups]
    assert frechet_interval(real, fake, renamed).standard_error == pytest.approx(
        frechet_interval(real, fake, groups).standard_error
    )


def test_few_fakes_are_dealt_into_fewer_groups():
    real, fake = full_rank()
    for count, groups in ((39, 19), (5, 2), (4, 2)):
        dealt = torch.arange(count) % groups
        found = frechet_interval(real, fake[:count])
        assert found.interval is not None
        assert found.value == frechet_interval(real, fake[:count], dealt).value


def test_images_that_are_all_the_same_leave_no_interval():
    """Whichever are left out, the distance stays: that does not make it certain."""
    real, fake = full_rank()
    found = frechet_interval(real, fake[:1].expand(40, -1))
    assert found.standard_error == pytest.approx(0, abs=1e-12)
    assert found.interval is None


def test_the_standard_error_is_the_spread_over_other_fakes():
    real = normal(2000, 4, 11)
    mixing = normal(4, 4, 12)
    generator = torch.Generator().manual_seed(13)
    draws = torch.randn(60, 300, 4, generator=generator, dtype=torch.float64) @ mixing
    found = [frechet_interval(real, fake) for fake in draws]
    spread = torch.tensor([one.value for one in found]).std().item()
    errors = torch.tensor([one.standard_error for one in found])
    # The spread of 60 draws is known within 20 %, twice its standard deviation.
    assert errors.mean().item() == pytest.approx(spread, rel=0.25)


def test_unusable_input_is_refused():
    real, fake = full_rank()
    with pytest.raises(ValueError, match=r"groups must be \(70,\) int64.* got \(69,\)"):
        frechet_interval(real, fake, torch.zeros(69, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"groups must be at least 2.* got sizes \[70\]"):
        frechet_interval(real, fake, torch.zeros(70, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"leaving 2 rows or more.* \[69, 1\] of 70 rows"):
        frechet_interval(real, fake, (torch.arange(70) == 0).long())
    with pytest.raises(ValueError, match="num_groups must be at least 2, got 1"):
        frechet_interval(real, fake, num_groups=1)
    with pytest.raises(ValueError, match="fake must have 6 columns, got 5"):
        frechet_interval(moments(real), fake[:, :5])
    with pytest.raises(ValueError, match="reference holds NaN"):
        frechet_interval(real * torch.nan, fake)
    with pytest.raises(ValueError, match="fake needs at least 4 rows, got 3"):
        frechet_interval(real, fake[:3])

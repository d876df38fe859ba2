"""FID at infinity on Gaussians, whose distance is known."""

from functools import cache

import pytest
import torch
from torch import Tensor

from diffgen.metrics.frechet import frechet_distance
from diffgen.metrics.frechet_jackknife import frechet_interval
from diffgen.metrics.infinity import FidInfinity, fid_infinity, frechet_figures
from diffgen.metrics.moments import Moments, moments
from diffgen.metrics.subset_line import fit_line, subset_sizes

SIZE, DRAWS = 8, 20
ENOUGH = 16  # of 20 intervals; a 95 % interval holds fewer with probability 0.003


def draw(count: int, scales: Tensor, shift: float, seed: int) -> Tensor:
    """Normal features of diagonal covariance `scales`² whose mean has length `shift`."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(count, SIZE, generator=generator, dtype=torch.float64)
    return noise * scales + shift / SIZE**0.5


ONES = torch.ones(SIZE, dtype=torch.float64)
RISING = torch.linspace(0.7, 1.5, SIZE, dtype=torch.float64)
CASES = {  # scales of the reals, scales and shift of the fakes
    "equal distributions": (ONES, ONES, 0.0),
    "equal, far from round": (RISING**6, RISING**6, 0.0),
    "shifted mean": (ONES, ONES, 0.5),
    "two diagonal covariances": (RISING, RISING.flip(0), 0.3),
}


def truth(case: str) -> float:
    first, second, shift = CASES[case]
    return shift**2 + (first - second).square().sum().item()


@cache
def found(case: str) -> list[FidInfinity]:
    """Estimates from 20 independent pairs of 2000 reals and 1500 fakes."""
    first, second, shift = CASES[case]
    pairs = (
        (draw(2000, first, 0.0, 2 * seed), draw(1500, second, shift, 2 * seed + 1))
        for seed in range(DRAWS)
    )
    return [fid_infinity(real, fake, num_groups=10) for real, fake in pairs]


def held(estimates: list[FidInfinity], distance: float) -> int:
    return sum(one.interval[0] <= distance <= one.interval[1] for one in estimates)


@pytest.mark.parametrize("case", CASES)
def test_intervals_hold_the_closed_form(case):
    assert held(found(case), truth(case)) >= ENOUGH


@pytest.mark.parametrize("case", CASES)
def test_intervals_are_not_held_open(case):
    """Their half width is at most twice what the estimates themselves scatter, times t."""
    spread = torch.tensor([one.value for one in found(case)]).std().item()
    error = torch.tensor([one.standard_error for one in found(case)]).mean().item()
    assert 0.6 * spread < error < 2 * spread


@pytest.mark.parametrize("case", CASES)
def test_the_intercept_scatters_more_than_the_value(case):
    values, intercepts = (
        torch.tensor(list(figures))
        for figures in zip(*((one.value, one.line.intercept) for one in found(case)), strict=True)
    )
    assert intercepts.std() > values.std()


def test_the_bias_goes():
    """At 2000 against 1500 it is 6 standard errors of the mean of 20 estimates and more."""
    estimates = found("equal distributions")
    plain = torch.tensor([one.line.values[-1] for one in estimates])
    at_infinity = torch.tensor([one.value for one in estimates])
    standard_error = at_infinity.std() / DRAWS**0.5
    assert plain.mean() > 6 * standard_error
    assert at_infinity.mean().abs() < 4 * standard_error


def test_stored_moments_of_the_true_gaussian_hold_it_too():
    first, second, shift = CASES["two diagonal covariances"]
    stored = Moments(None, torch.zeros(SIZE).double(), torch.diag(first**2))
    fakes = [draw(1500, second, shift, 100 + seed) for seed in range(DRAWS)]
    estimates = [fid_infinity(stored, fake, num_groups=10) for fake in fakes]
    assert held(estimates, truth("two diagonal covariances")) >= ENOUGH


def test_stored_moments_keep_the_bias_of_their_images():
    """Few reals, many fakes: only features let the reference's share of the bias go."""
    kept, gone = [], []
    for seed in range(5):
        real, fake = draw(200, ONES, 0.0, 200 + seed), draw(2000, ONES, 0.0, 300 + seed)
        kept.append(fid_infinity(moments(real), fake, num_groups=10).value)
        gone.append(fid_infinity(real, fake, num_groups=10).value)
    assert sum(gone) / 5 < 0.5 * sum(kept) / 5


@pytest.mark.parametrize(("reals", "fakes"), [(400, 300), (400, 14), (14, 14)])
def test_the_line_goes_through_distances_of_subsets(reals, fakes):
    """Of a rank below 8 features where half of 14 rows are taken."""
    real, fake = draw(reals, ONES, 0.0, 400), draw(fakes, RISING, 0.2, 401)
    line = fid_infinity(real, fake, num_groups=5).line
    assert line.sizes == subset_sizes(fakes)
    assert line.values[-1] == pytest.approx(frechet_distance(real, fake), abs=1e-10)
    first, half = (
        torch.randperm(count, generator=torch.Generator().manual_seed(0))[: count // 2]
        for count in (reals, fakes)
    )
    assert line.values[0] == pytest.approx(frechet_distance(real[first], fake[half]), abs=1e-10)
    assert line.slope > 0
    assert 0 < line.r2 < 1


@pytest.mark.parametrize("stored", [False, True])
def test_both_figures_at_once_are_those_of_the_two_functions(stored):
    real, fake = draw(90, ONES, 0.0, 402), draw(70, RISING, 0.2, 403)
    reference, groups = moments(real) if stored else real, torch.arange(70) % 7
    plain, extrapolated = frechet_figures(reference, fake, groups)
    assert plain == frechet_interval(reference, fake, groups)
    assert extrapolated == fid_infinity(reference, fake, groups)
    assert (plain.standard_error == extrapolated.standard_error) == stored


@pytest.mark.parametrize(("reals", "fakes"), [(39, 300), (300, 39), (9, 10)])
def test_few_images_of_either_side_are_dealt_into_fewer_groups(reals, fakes):
    real, fake = draw(reals, ONES, 0.0, 404), draw(fakes, RISING, 0.2, 405)
    found = fid_infinity(real, fake)
    assert found == fid_infinity(real, fake, num_groups=min(20, reals // 2, fakes // 2))


def test_a_perfect_line_is_found():
    line = fit_line([50, 70, 100, 200], [3 + 7 / n for n in (50, 70, 100, 200)])
    assert line.intercept == pytest.approx(3)
    assert line.slope == pytest.approx(7)
    assert line.r2 == pytest.approx(1)
    assert line.residual_sd == pytest.approx(0, abs=1e-12)
    assert fit_line([10, 20, 30], [2.0, 2.0, 2.0]).r2 == 1


def test_residuals_about_the_line():
    """Values off a flat line by +1, -2, +1 at evenly spaced 1 / n, which leaves it flat."""
    line = fit_line([60, 30, 20], [1.0, -2.0, 1.0])
    assert line.slope == pytest.approx(0, abs=1e-12)
    assert line.r2 == pytest.approx(0, abs=1e-12)
    assert line.residual_sd == pytest.approx(6**0.5)


def test_sizes_of_the_subsets():
    sizes = subset_sizes(50_000)
    assert len(sizes) == 15
    assert (sizes[0], sizes[1] - sizes[0], sizes[-1]) == (5000, 3214, 50_000)
    assert subset_sizes(1000)[0] == 500
    assert subset_sizes(4) == [2, 3, 4]


def test_a_set_against_its_copy_is_at_distance_0():
    features = draw(200, RISING, 1.0, 500)
    result = fid_infinity(features, features.clone(), num_groups=5)
    assert result.value == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    ("reals", "fakes", "said"),
    [
        (8, 40, "reference needs more than 8 rows, got 8"),
        (40, 6, "fake needs more than 8 rows, got 6"),
    ],
)
def test_no_more_rows_than_features_are_no_base_for_extrapolation(reals, fakes, said):
    real, fake = draw(reals, ONES, 0.0, 600), draw(fakes, ONES, 1.0, 601)
    with pytest.raises(ValueError, match=said):
        fid_infinity(real, fake)


def test_unusable_input_is_refused():
    real, fake = draw(40, ONES, 0.0, 700), draw(50, ONES, 0.0, 701)
    with pytest.raises(ValueError, match="num_groups must be at least 2, got 1"):
        fid_infinity(real, fake, num_groups=1)
    with pytest.raises(ValueError, match=r"groups must be at most 20 for 40 rows of .*, got 25"):
        fid_infinity(real, fake, torch.arange(50) % 25)
    with pytest.raises(ValueError, match="reference needs more than 8 rows, got 3"):
        fid_infinity(real[:3], fake)
    with pytest.raises(ValueError, match="fake must have 8 columns, got 7"):
        fid_infinity(moments(real), fake[:, :7])
    with pytest.raises(ValueError, match="fake holds NaN"):
        fid_infinity(real, fake * torch.nan)

"""The Fréchet distance against golden numbers, closed forms and scipy's matrix square root."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor

from diffgen.metrics.frechet import frechet_distance, frechet_from_moments
from diffgen.metrics.gaussian import cholesky_factor
from diffgen.metrics.moments import Moments, MomentsAccumulator, moments, moments_from_sums

GOLDEN = Path(__file__).parents[1] / "data/golden/metrics.safetensors"


def normal(count: int, size: int, seed: int) -> Tensor:
    """Correlated, off-centre features."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(size, size, generator=generator, dtype=torch.float64)
    offset = torch.randn(size, generator=generator, dtype=torch.float64)
    return torch.randn(count, size, generator=generator, dtype=torch.float64) @ mixing + offset


def gaussian(mean: list[float], cov: Tensor) -> Moments:
    return Moments(100, torch.tensor(mean, dtype=torch.float64), cov)


def test_golden_value():
    golden = load_file(GOLDEN)
    value = frechet_distance(golden["real"], golden["fake"])
    assert value == pytest.approx(golden["fid"].item(), abs=1e-10)


def test_moments_are_numpys():
    features = normal(60, 7, 0)
    found = moments(features)
    assert found.count == 60
    np.testing.assert_allclose(found.mean, features.numpy().mean(0), atol=1e-13)
    np.testing.assert_allclose(found.cov, np.cov(features.numpy(), rowvar=False), atol=1e-12)


@pytest.mark.parametrize("count", [5, 40])
def test_distance_to_itself_is_zero(count):
    features = normal(count, 12, 1)
    assert frechet_distance(features, features) == pytest.approx(0, abs=1e-10)


@pytest.mark.parametrize("count", [5, 40])
def test_shift_gives_its_squared_length(count):
    features, shift = normal(count, 12, 2), normal(1, 12, 3)
    expected = shift.square().sum().item()
    assert frechet_distance(features, features + shift) == pytest.approx(expected, abs=1e-9)


def test_scaling_both_sets_scales_the_distance_by_the_square():
    real, fake = normal(50, 8, 4), normal(70, 8, 5)
    assert frechet_distance(3 * real, 3 * fake) == pytest.approx(9 * frechet_distance(real, fake))


def test_scaling_one_centred_set():
    """S_2 = a² S_1 and equal means give (1 - a)² tr S_1."""
    features = normal(50, 8, 6)
    features = features - features.mean(0)
    trace = moments(features).cov.trace().item()
    assert frechet_distance(features, 1.7 * features) == pytest.approx(0.7**2 * trace)


def test_commuting_covariances_have_a_closed_form():
    """Equal eigenvectors: |mu_1 - mu_2|² + sum (sqrt(a_i) - sqrt(b_i))²."""
    basis = torch.linalg.qr(normal(3, 3, 7)).Q
    first = gaussian([0, 1, 2], basis @ torch.diag(torch.tensor([1.0, 4, 9]).double()) @ basis.T)
    second = gaussian([1, 1, 0], basis @ torch.diag(torch.tensor([4.0, 1, 0]).double()) @ basis.T)
    assert frechet_from_moments(first, second) == pytest.approx(5 + 1 + 1 + 9, abs=1e-7)
    assert frechet_from_moments(second, first) == pytest.approx(5 + 1 + 1 + 9, abs=1e-7)


def test_two_singular_covariances_take_the_eigendecomposition():
    first = gaussian([0, 0], torch.diag(torch.tensor([4.0, 0]).double()))
    second = gaussian([0, 0], torch.diag(torch.tensor([1.0, 0]).double()))
    orthogonal = gaussian([0, 0], torch.diag(torch.tensor([0, 1.0]).double()))
    assert cholesky_factor(first.cov) is None
    assert frechet_from_moments(first, second) == pytest.approx(1)
    assert frechet_from_moments(first, orthogonal) == pytest.approx(5)


def test_agrees_with_scipys_square_root():
    real, fake = normal(90, 20, 8), normal(80, 20, 9)
    first, second = moments(real), moments(fake)
    root = scipy.linalg.sqrtm((first.cov @ second.cov).numpy())
    gap = (first.mean - second.mean).square().sum()
    expected = gap + first.cov.trace() + second.cov.trace() - 2 * np.trace(root).real
    assert frechet_distance(real, fake) == pytest.approx(float(expected), abs=1e-9)


def exact_root_trace(real: Tensor, fake: Tensor) -> float:
    """Nuclear norm straight from the centred features, without any reduction."""
    first, second = real - real.mean(0), fake - fake.mean(0)
    norm = torch.linalg.matrix_norm(first @ second.T, ord="nuc").item()
    return norm / ((len(real) - 1) * (len(fake) - 1)) ** 0.5


def exact_distance(real: Tensor, fake: Tensor) -> float:
    gap = (real.mean(0) - fake.mean(0)).square().sum().item()
    traces = real.var(0).sum().item() + fake.var(0).sum().item()
    return gap + traces - 2 * exact_root_trace(real, fake)


@pytest.mark.parametrize(("reals", "fakes"), [(10, 12), (10, 60), (60, 10), (31, 30)])
def test_rank_deficient_sets(reals, fakes):
    real, fake = normal(reals, 30, 10), normal(fakes, 30, 11)
    value = frechet_distance(real, fake)
    assert value == pytest.approx(exact_distance(real, fake), abs=1e-10)
    # The counts say which eigenvalues are 0, so moments lose nothing.
    assert value == pytest.approx(frechet_from_moments(moments(real), moments(fake)), abs=1e-9)


@pytest.mark.parametrize(("reals", "fakes"), [(100, 100), (100, 900), (900, 100)])
def test_low_rank_in_many_dimensions(reals, fakes):
    """Of unit variance, where a distance is some hundred."""
    real, fake = normal(reals, 512, 21) / 512**0.5, normal(fakes, 512, 22) / 512**0.5
    exact = exact_distance(real, fake)
    assert frechet_distance(real, fake) == pytest.approx(exact, abs=1e-6)
    first, second = moments(real), moments(fake)
    assert frechet_from_moments(first, second) == pytest.approx(exact, abs=1e-5)


@pytest.mark.parametrize(("reals", "fakes"), [(10, 60), (60, 10)])
def test_low_rank_that_no_count_tells(reals, fakes):
    """Eigenvalues that should be 0 then cost digits, but it is the same distance."""
    real, fake = normal(reals, 30, 10) / 30**0.5, normal(fakes, 30, 11) / 30**0.5
    first, second = (Moments(None, one.mean, one.cov) for one in (moments(real), moments(fake)))
    expected = exact_distance(real, fake)
    assert frechet_from_moments(first, second) == pytest.approx(expected, abs=1e-5)


def repeated_feature(features: Tensor) -> Tensor:
    return torch.cat([features, features[:, :1]], 1)


def dead_feature(features: Tensor) -> Tensor:
    return torch.nn.functional.pad(features, (0, 1))


@pytest.mark.parametrize("degrade", [repeated_feature, dead_feature])
def test_full_count_but_low_rank(degrade):
    real, fake = degrade(normal(80, 10, 12)), degrade(normal(90, 10, 13))
    assert cholesky_factor(moments(real).cov) is None
    assert frechet_distance(real, fake) == pytest.approx(exact_distance(real, fake), abs=1e-10)


def test_collapsed_fakes_are_low_rank_too():
    real, fake = normal(80, 10, 14), normal(4, 10, 15).repeat(20, 1)
    assert frechet_distance(real, fake) == pytest.approx(exact_distance(real, fake), abs=1e-10)
    assert frechet_distance(fake, real) == pytest.approx(exact_distance(real, fake), abs=1e-10)


def test_full_rank_is_judged_without_regard_to_units():
    features = normal(80, 6, 16) * torch.logspace(-8, 8, 6, dtype=torch.float64)
    assert cholesky_factor(moments(features).cov) is not None


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), count=st.integers(3, 30))
def test_rotating_both_sets_changes_nothing(seed, count):
    real, fake = normal(count, 9, seed), normal(count + 2, 9, seed + 1)
    rotation = torch.linalg.qr(normal(9, 9, seed + 2)).Q
    expected = frechet_distance(real, fake)
    rotated = frechet_distance(real @ rotation, fake @ rotation)
    assert rotated == pytest.approx(expected, rel=1e-6, abs=1e-6)


@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(1, 39), min_size=0, max_size=6), seed=st.integers(0, 10_000))
def test_batches_and_shards_add_up(cuts, seed):
    features = normal(40, 5, seed)
    edges = [0, *sorted(set(cuts)), 40]
    shards = [MomentsAccumulator(5), MomentsAccumulator(5)]
    for i, (start, stop) in enumerate(itertools.pairwise(edges)):
        shards[i % 2].update(features[start:stop])
    shards[0].merge(shards[1])
    found, expected = shards[0].compute(), moments(features)
    assert found.count == 40
    torch.testing.assert_close(found.mean, expected.mean, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found.cov, expected.cov, rtol=1e-12, atol=1e-12)


@settings(max_examples=25, deadline=None)
@given(cut=st.integers(1, 38), seed=st.integers(0, 10_000))
def test_a_piece_can_be_taken_away(cut, seed):
    features = normal(40, 5, seed) + 1e3
    whole, part = MomentsAccumulator(5), MomentsAccumulator(5)
    whole.update(features)
    part.update(features[:cut])
    found, expected = whole.without(part).compute(), moments(features[cut:])
    assert found.count == 40 - cut
    torch.testing.assert_close(found.mean, expected.mean, rtol=1e-12, atol=0)
    torch.testing.assert_close(found.cov, expected.cov, rtol=1e-9, atol=1e-9)
    assert (whole.count, part.count) == (40, cut)
    torch.testing.assert_close(whole.compute().cov, moments(features).cov)


def test_accumulating_survives_a_large_mean():
    features = normal(200, 4, 17)
    running = MomentsAccumulator(4)
    for batch in (features + 1e7).split(16):
        running.update(batch)
    torch.testing.assert_close(running.compute().cov, moments(features).cov, rtol=1e-7, atol=1e-7)


def test_moments_from_sums():
    features = normal(50, 6, 18)
    found = moments_from_sums(50, features.sum(0), features.T @ features)
    torch.testing.assert_close(found.cov, moments(features).cov, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_arithmetic_is_float64_whatever_the_dtype(dtype):
    real, fake = normal(40, 6, 19).to(dtype), normal(40, 6, 20).to(dtype)
    expected = frechet_distance(real.double(), fake.double())
    assert frechet_distance(real, fake) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("real", "fake", "message"),
    [
        (torch.zeros(1, 3), torch.zeros(4, 3), "real needs at least 2 rows, got 1"),
        (torch.zeros(4, 3), torch.zeros(0, 3), "fake needs at least 2 rows, got 0"),
        (torch.zeros(4, 3), torch.zeros(4, 2), "fake must have 3 columns, got 2"),
        (torch.zeros(4, 3, 1), torch.zeros(4, 3), r"real must be \(N, D\) features"),
        (torch.zeros(4, 3).int(), torch.zeros(4, 3), "real must be floating point"),
        (torch.zeros(4, 3), torch.full((4, 3), torch.nan), "fake holds NaN or infinity"),
        (torch.full((4, 3), torch.inf), torch.zeros(4, 3), "real holds NaN or infinity"),
    ],
)
def test_unusable_features_are_refused(real, fake, message):
    with pytest.raises(ValueError, match=message):
        frechet_distance(real, fake)


def test_unusable_moments_are_refused():
    mean, cov = torch.zeros(3).double(), torch.eye(3).double()
    with pytest.raises(ValueError, match="at least 2 feature rows, got 1"):
        Moments(1, mean, cov)
    with pytest.raises(ValueError, match=r"cov \(D, D\)"):
        Moments(5, mean, cov[:2])
    with pytest.raises(ValueError, match="mean must be float64"):
        Moments(5, mean.float(), cov)
    with pytest.raises(ValueError, match="cov holds NaN"):
        Moments(5, mean, cov * torch.nan)
    with pytest.raises(ValueError, match=r"feature counts differ: 3 .* 2"):
        frechet_from_moments(Moments(5, mean, cov), Moments(5, mean[:2], cov[:2, :2]))
    with pytest.raises(ValueError, match="cannot merge 2 features into 3"):
        MomentsAccumulator(3).merge(MomentsAccumulator(2))
    with pytest.raises(ValueError, match="cannot take 0 rows of 2 features from 0 of 3"):
        MomentsAccumulator(3).without(MomentsAccumulator(2))
    with pytest.raises(ValueError, match="cannot take 0 rows of 3 features from 0 of 3"):
        MomentsAccumulator(3).without(MomentsAccumulator(3))
    with pytest.raises(ValueError, match="at least 2 feature rows, got 0"):
        MomentsAccumulator(3).compute()

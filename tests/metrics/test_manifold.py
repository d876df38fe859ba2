"""Overlap of manifolds against golden numbers, the prdc package and known answers; duplicates."""

from math import prod
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from prdc import compute_prdc
from safetensors.torch import load_file
from torch import Tensor

from benchmarks.machine import peak_memory
from diffgen.metrics.balls import squared_distances, squared_radii
from diffgen.metrics.manifold import density_coverage, precision_recall

GOLDEN = Path(__file__).parents[1] / "data/golden/metrics.safetensors"


def points(count: int, size: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, size, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("rule", ["adm", "strict"])
def test_golden_values(rule):
    golden = load_file(GOLDEN)
    found = precision_recall(golden["real"], golden["fake"], int(golden["k"]), rule)
    assert found.precision == pytest.approx(golden["precision"].item(), abs=1e-10)
    assert found.recall == pytest.approx(golden["recall"].item(), abs=1e-10)
    found = density_coverage(golden["real"], golden["fake"], int(golden["k"]))
    assert found.density == pytest.approx(golden["density"].item(), abs=1e-10)
    assert found.coverage == pytest.approx(golden["coverage"].item(), abs=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("k", [1, 3, 5])
def test_agrees_with_prdc(k, dtype):
    real, fake = points(150, 8, 0).to(dtype), (0.8 * points(120, 8, 1) + 0.2).to(dtype)
    expected = compute_prdc(real.double().numpy(), fake.double().numpy(), nearest_k=k)
    found = precision_recall(real, fake, k, "strict")
    assert 0 < expected["precision"] < 1
    assert 0 < expected["recall"] < 1
    assert found.precision == pytest.approx(expected["precision"], abs=1e-12)
    assert found.recall == pytest.approx(expected["recall"], abs=1e-12)
    assert 0 < expected["coverage"] < 1
    found = density_coverage(real, fake, k)
    assert found.density == pytest.approx(expected["density"], abs=1e-12)
    assert found.coverage == pytest.approx(expected["coverage"], abs=1e-12)


@pytest.mark.parametrize("block_size", [1, 7, 64, 1000])
def test_blocks_change_nothing(block_size):
    real, fake = points(60, 5, 2), 1.3 * points(45, 5, 3)
    assert precision_recall(real, fake, block_size=block_size) == precision_recall(real, fake)
    assert density_coverage(real, fake, block_size=block_size) == density_coverage(real, fake)


def test_radii_are_the_kth_other_neighbour():
    line = torch.tensor([[0.0], [1.0], [3.0], [7.0]], dtype=torch.float64)
    assert squared_radii(line, 1, 2).tolist() == [1, 1, 4, 16]
    assert squared_radii(line, 3, 3).tolist() == [49, 36, 16, 49]


def test_precision_and_recall_are_not_swapped():
    """Fakes on one of two modes: every fake is plausible, half the reals are out of reach."""
    near, far = points(50, 3, 4), points(50, 3, 5) + 1000
    found = precision_recall(torch.cat([near, far]), 0.5 * points(50, 3, 6))
    assert found.precision > 0.9
    assert found.recall < 0.5


@pytest.mark.parametrize("offset", [0.0, 0.1, 1 / 3, 1e3 / 7])
def test_a_point_on_a_balls_surface_is_inside_by_adm_only(offset):
    """Each real's neighbour is 1 away; the fake at 2 is 1 from the nearest real, up to rounding."""
    real = torch.tensor([[-1.0, 0], [0, 0], [1, 0]], dtype=torch.float64) + offset
    fake = torch.tensor([[2.0, 0], [50, 0]], dtype=torch.float64) + offset
    assert precision_recall(real, fake, k=1, rule="adm").precision == 0.5
    assert precision_recall(real, fake, k=1, rule="strict").precision == 0.0
    assert density_coverage(real, fake, k=1).density == 0.0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_copies_of_repeated_images(dtype, offset):
    """More than k copies of each real: every radius is 0, a copied fake is at distance 0."""
    real = (points(20, 16, 7) + offset).to(dtype).repeat(4, 1)
    found = precision_recall(real, real.clone(), k=3, rule="adm", block_size=13)
    assert (found.precision, found.recall) == (1.0, 1.0)
    found = precision_recall(real, real.clone(), k=3, rule="strict", block_size=13)
    assert (found.precision, found.recall) == (0.0, 0.0)


@pytest.mark.parametrize("rule", ["adm", "strict"])
def test_copies_of_single_images_are_inside_by_both_rules(rule):
    real = points(40, 6, 8)
    assert precision_recall(real, real[:20], rule=rule).precision == 1.0


def test_a_near_copy_is_told_from_a_copy():
    """One part in 10^5, float32: the product form in float32 would give 0 or noise."""
    first = points(6, 32, 9).float()
    second = first * (1 + 1e-5)
    exact = (first.double() - second.double()).square().sum(1)
    found = squared_distances(first.double(), second.double()).diagonal()
    torch.testing.assert_close(found, exact, rtol=1e-4, atol=0)


@pytest.mark.parametrize("block_size", [3, 64, 2048])
def test_density_of_copies_is_1_whatever_rounding_does(block_size):
    """Each ball holds its centre and k - 1 neighbours; the k-th is on its surface."""
    real = points(150, 64, 20)
    copies = real[torch.randperm(150, generator=torch.Generator().manual_seed(21))]
    found = density_coverage(real, copies, 5, block_size=block_size)
    assert (found.density, found.coverage) == (1.0, 1.0)


def test_density_counts_balls_and_coverage_centres():
    """Reals 0, 1, 2, 9 on a line, k = 1: open balls of radius 1, 1, 1 and 7."""
    real = torch.tensor([[0.0], [1.0], [2.0], [9.0]])
    found = density_coverage(real, torch.tensor([[0.5], [1.5], [50.0]]), k=1)
    assert found.density == 4 / 3  # 0.5 is in the balls of 0 and 1, 1.5 in those of 1 and 2
    assert found.coverage == 3 / 4
    found = density_coverage(real, torch.tensor([[3.5]]), k=1)  # in the ball of 9 alone
    assert (found.density, found.coverage) == (1.0, 1 / 4)


@pytest.mark.parametrize(("reals", "fakes", "k"), [(150, 150, 5), (80, 160, 3), (160, 80, 5)])
def test_density_and_coverage_of_two_samples_of_one_distribution(reals, fakes, k):
    """Means of 40 draws, within 4 of their standard errors, about the expectations."""
    draws = [
        density_coverage(points(reals, 4, 100 + 2 * i), points(fakes, 4, 101 + 2 * i), k)
        for i in range(40)
    ]
    covered = 1 - prod((reals - i) / (reals + fakes - i) for i in range(1, k + 1))
    if reals == fakes:
        assert covered == pytest.approx(1 - 2**-k, abs=0.005)
    for values, expected in (
        (torch.tensor([one.density for one in draws]), 1.0),
        (torch.tensor([one.coverage for one in draws]), covered),
    ):
        error = (values.std() / len(values) ** 0.5).item()
        assert error < 0.02
        assert values.mean().item() == pytest.approx(expected, abs=4 * error)


def test_distances_are_never_held_all_at_once():
    real, fake = points(600, 8, 25).float(), points(5000, 8, 26).float()
    found = peak_memory(lambda: precision_recall(real, fake, block_size=500), torch.device("cpu"))
    if found is not None:  # None where the system has no resettable peak
        assert found.growth < 60e6  # all distances between fakes: 200 MB


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), shift=st.floats(-100, 100))
def test_rotation_shift_and_scale_change_nothing(seed, shift):
    real, fake = points(30, 4, seed), points(25, 4, seed + 1)
    rotation = torch.linalg.qr(points(4, 4, seed + 2)).Q
    moved = precision_recall(3 * real @ rotation + shift, 3 * fake @ rotation + shift)
    assert moved == precision_recall(real, fake)
    moved = density_coverage(3 * real @ rotation + shift, 3 * fake @ rotation + shift)
    assert moved == density_coverage(real, fake)


def test_exchanging_the_sets_exchanges_the_figures():
    real, fake = points(60, 6, 10), 0.7 * points(50, 6, 11)
    one, other = precision_recall(real, fake), precision_recall(fake, real)
    assert (one.precision, one.recall) == (other.recall, other.precision)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": 4}, "k must be from 1 to 3 for 4 points, got 4"),
        ({"k": 0}, "k must be from 1 to 3 for 4 points, got 0"),
        ({"rule": "tf"}, "rule must be one of .*'adm', 'strict'.*, got 'tf'"),
        ({"block_size": 0}, "block_size must be at least 1, got 0"),
        ({"fake": torch.zeros(5, 3)}, "fake must have 2 columns, got 3"),
        ({"fake": torch.full((5, 2), torch.nan)}, "fake holds NaN"),
        ({"real": torch.zeros(4)}, r"real must be \(N, D\) features"),
    ],
)
def test_unusable_arguments_are_refused(change, message):
    arguments = {"real": torch.zeros(4, 2), "fake": torch.zeros(5, 2), **change}
    with pytest.raises(ValueError, match=message):
        precision_recall(**arguments)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": 4}, "k must be from 1 to 3 for 4 points, got 4"),
        ({"block_size": 0}, "block_size must be at least 1, got 0"),
        ({"fake": torch.zeros(5, 3)}, "fake must have 2 columns, got 3"),
        ({"fake": torch.zeros(0, 2)}, "fake needs at least 1 rows, got 0"),
        ({"real": torch.full((4, 2), torch.inf)}, "real holds NaN or infinity"),
    ],
)
def test_unusable_arguments_of_density_are_refused(change, message):
    arguments = {"real": torch.zeros(4, 2), "fake": torch.zeros(5, 2), "k": 1, **change}
    with pytest.raises(ValueError, match=message):
        density_coverage(**arguments)

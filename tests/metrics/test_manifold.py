"""Precision and recall against golden numbers and the prdc package, and on duplicates."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from prdc import compute_prdc
from safetensors.torch import load_file
from torch import Tensor

from diffgen.metrics.manifold import precision_recall, squared_distances, squared_radii

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


@pytest.mark.parametrize("block_size", [1, 7, 64, 1000])
def test_blocks_change_nothing(block_size):
    real, fake = points(60, 5, 2), 1.3 * points(45, 5, 3)
    assert precision_recall(real, fake, block_size=block_size) == precision_recall(real, fake)


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


def test_a_point_on_a_balls_surface_is_inside_by_adm_only():
    """Each real's neighbour is 1 away; the fake at 2 is exactly 1 from the nearest real."""
    real, fake = torch.tensor([[-1.0, 0], [0, 0], [1, 0]]), torch.tensor([[2.0, 0], [50, 0]])
    assert precision_recall(real, fake, k=1, rule="adm").precision == 0.5
    assert precision_recall(real, fake, k=1, rule="strict").precision == 0.0


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


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), shift=st.floats(-100, 100))
def test_rotation_shift_and_scale_change_nothing(seed, shift):
    real, fake = points(30, 4, seed), points(25, 4, seed + 1)
    rotation = torch.linalg.qr(points(4, 4, seed + 2)).Q
    moved = precision_recall(3 * real @ rotation + shift, 3 * fake @ rotation + shift)
    assert moved == precision_recall(real, fake)


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

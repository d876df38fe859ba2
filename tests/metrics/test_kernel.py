"""Kernel distances against golden numbers, closed forms and their whole kernel matrices."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch_fidelity.metric_kid import kernel_mmd

from diffgen.metrics.kernel import (
    cmmd,
    kernel_distance,
)

GOLDEN = Path(__file__).parents[1] / "data/golden/metrics.safetensors"


def points(count: int, size: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, size, generator=generator, dtype=torch.float64)


def test_golden_value():
    golden = load_file(GOLDEN)
    value = kernel_distance(golden["real"], golden["fake"])
    assert value == pytest.approx(golden["kid_unbiased_all"].item(), abs=1e-10)


def test_agrees_with_torch_fidelity_on_one_subset_of_everything():
    real, fake = points(80, 12, 0), 1.2 * points(80, 12, 1) + 0.3
    expected = kernel_mmd(
        real.numpy(),
        fake.numpy(),
        kid_kernel="poly",
        kid_kernel_poly_degree=3,
        kid_kernel_poly_gamma=None,
        kid_kernel_poly_coef0=1,
    )
    assert kernel_distance(real, fake) == pytest.approx(float(expected), rel=1e-11)


def test_two_points_a_side_by_hand():
    """k(0, 0) = k(0, y) = 1 and k(1, 1) = 8 in one dimension; the diagonals do not count."""
    zeros, ones = torch.zeros(2, 1), torch.ones(2, 1)
    assert kernel_distance(zeros, ones) == 1 + 8 - 2 * 1
    mixed = torch.tensor([[0.0], [1.0]])
    assert kernel_distance(mixed, mixed) == 1 + 1 - 2 * (1 + 1 + 1 + 8) / 4


def population_distance(shift: float) -> float:
    """MMD² of N(0, 1) and N(shift, 1): the kernel (xy + 1)³ compares the first three moments."""
    return 3 * shift**2 + 3 * shift**4 + (shift**3 + 3 * shift) ** 2


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_the_estimate_is_unbiased(shift):
    values = torch.tensor(
        [
            kernel_distance(points(10, 1, 2 * seed), points(15, 1, 2 * seed + 1) + shift)
            for seed in range(1000)
        ]
    )
    error = values.std() / len(values) ** 0.5
    assert abs(values.mean() - population_distance(shift)) < 4 * error
    assert (values < 0).any()


@pytest.mark.parametrize("block_size", [1, 7, 64, 1000])
@pytest.mark.parametrize("distance", [kernel_distance, cmmd])
def test_blocks_change_nothing(distance, block_size):
    real, fake = points(60, 5, 2), 1.3 * points(45, 5, 3)
    value = distance(real, fake, block_size=block_size)
    assert value == pytest.approx(distance(real, fake), rel=1e-10)
    assert value == pytest.approx(distance(fake, real), rel=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("distance", [kernel_distance, cmmd])
def test_arithmetic_is_float64_whatever_the_dtype(distance, dtype):
    real, fake = points(40, 6, 4).to(dtype), points(40, 6, 5).to(dtype)
    expected = distance(real.double(), fake.double())
    assert distance(real, fake) == pytest.approx(expected, rel=1e-12)


def whole_matrix_cmmd(real: Tensor, fake: Tensor, sigma: float) -> float:
    real, fake = (torch.nn.functional.normalize(rows) for rows in (real, fake))

    def mean_kernel(first: Tensor, second: Tensor) -> Tensor:
        return torch.exp(-torch.cdist(first, second).square() / (2 * sigma**2)).mean()

    within = mean_kernel(real, real) + mean_kernel(fake, fake)
    return 1000 * (within - 2 * mean_kernel(real, fake)).item()


@pytest.mark.parametrize("sigma", [10.0, 0.5])
def test_cmmd_is_the_biased_estimate_of_normalised_rows(sigma):
    real, fake = points(50, 8, 12), points(70, 8, 13) + 0.4
    value = cmmd(real, fake, sigma=sigma)
    assert value == pytest.approx(whole_matrix_cmmd(real, fake, sigma), rel=1e-8)
    lengths = points(50, 1, 14).abs() + 0.1
    assert cmmd(lengths * real, 7 * fake, sigma=sigma) == pytest.approx(value, rel=1e-8)


def test_cmmd_of_a_set_with_itself_is_zero():
    real = points(50, 8, 15)
    assert cmmd(real, real.clone()) == pytest.approx(0, abs=1e-10)


def test_cmmd_of_two_opposite_directions_by_hand():
    """k = 1 within a set, exp(-4 / 2 sigma²) across: 2000 (1 - exp(-1/50)) at sigma = 10."""
    east, west = torch.tensor([[2.0, 0.0]]).repeat(3, 1), torch.tensor([[-5.0, 0.0]]).repeat(2, 1)
    expected = 2000 * (1 - torch.exp(torch.tensor(-1 / 50, dtype=torch.float64)).item())
    assert cmmd(east, west) == pytest.approx(expected, rel=1e-12)
    assert cmmd(east, west, scale=1) == pytest.approx(expected / 1000, rel=1e-12)


@pytest.mark.parametrize("distance", [kernel_distance, cmmd])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"block_size": 0}, "block_size must be at least 1, got 0"),
        ({"fake": torch.ones(5, 3)}, "fake must have 2 columns, got 3"),
        ({"fake": torch.full((5, 2), torch.nan)}, "fake holds NaN"),
        ({"real": torch.ones(4)}, r"real must be \(N, D\) features"),
        ({"real": torch.ones(1, 2)}, "real needs at least 2 rows, got 1"),
    ],
)
def test_unusable_arguments_are_refused(distance, change, message):
    arguments = {"real": torch.ones(4, 2), "fake": torch.ones(5, 2), **change}
    with pytest.raises(ValueError, match=message):
        distance(**arguments)


def test_arguments_of_one_function_are_refused_too():
    rows = torch.ones(4, 2)
    with pytest.raises(ValueError, match="sigma must be above 0, got 0"):
        cmmd(rows, rows, sigma=0)
    with pytest.raises(ValueError, match="fake holds a row of zeros"):
        cmmd(rows, torch.eye(4)[:, :2])

"""Jacobians against autograd and against denoisers whose Jacobian is known exactly."""

import math

import pytest
import torch

from diffgen.metrics.jacobian import (
    affine_residual,
    asymmetry,
    hutchinson,
    jacobian,
    leading_modes,
)
from diffgen.metrics.wiener import Wiener, fit_wiener

SHAPE = (3, 4, 4)
SIZE = math.prod(SHAPE)


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def linear(matrix: torch.Tensor, bias: float = 0.0):
    return lambda y: (y.flatten(1) @ matrix.T + bias).reshape(y.shape)


@pytest.fixture(scope="module")
def gaussian() -> Wiener:
    """The optimal denoiser of a Gaussian whose variances run over three decades."""
    basis = torch.linalg.qr(drawn(SIZE, SIZE, seed=1)).Q
    return Wiener(drawn(SIZE), torch.logspace(1, -2, SIZE, dtype=torch.float64), basis)


@pytest.mark.parametrize("batch_size", [1, 10, 1000])
def test_of_a_linear_map_it_is_the_matrix_and_not_its_transpose(batch_size):
    matrix = drawn(SIZE, SIZE, seed=2)
    found = jacobian(linear(matrix, 0.5), drawn(*SHAPE, seed=3), batch_size)
    assert torch.allclose(found, matrix, atol=1e-12)


def test_of_a_network_it_is_autograds():
    weights = drawn(SIZE, SIZE, seed=4)

    def network(y: torch.Tensor) -> torch.Tensor:
        return (
            torch.tanh(y.flatten(1) @ weights / 4).reshape(y.shape)
            * y.square().mean((1, 2, 3))[:, None, None, None]
        )

    y = drawn(*SHAPE, seed=5)
    with torch.no_grad():  # as commands call it
        found = jacobian(network, y)
    wanted = torch.autograd.functional.jacobian(lambda z: network(z[None])[0], y)
    assert torch.allclose(found, wanted.reshape(SIZE, SIZE), atol=1e-12)


@pytest.mark.parametrize("sigma", [0.1, 1.0, 5.0])
def test_the_trace_of_the_optimal_gaussian_denoiser_is_the_sum_of_its_gains(gaussian, sigma):
    wanted = float((gaussian.values / (gaussian.values + sigma**2)).sum())
    y = drawn(*SHAPE, seed=6)
    exact = float(jacobian(lambda z: gaussian(z, sigma), y).trace())
    assert exact == pytest.approx(wanted, rel=1e-10)
    assert gaussian.effective_dimension(sigma) == pytest.approx(wanted, rel=1e-12)
    generator = torch.Generator().manual_seed(7)
    found = hutchinson(lambda z: gaussian(z, sigma), y, 400, generator)
    assert abs(found.mean - wanted) < 3 * found.error
    assert 0 < found.error < 0.1 * wanted


def test_the_standard_error_is_that_of_random_signs():
    """Var[v^T J v] = 2 sum over i != j of S_ij^2, with S the symmetric part of J."""
    matrix = drawn(SIZE, SIZE, seed=8)
    symmetric = (matrix + matrix.T) / 2
    off = symmetric - torch.diag(symmetric.diagonal())
    wanted = float((2 * off.square().sum()).sqrt()) / 2000**0.5
    generator = torch.Generator().manual_seed(9)
    found = hutchinson(linear(matrix), drawn(*SHAPE), 2000, generator)
    assert found.error == pytest.approx(wanted, rel=0.1)


def test_a_diagonal_is_estimated_without_error():
    found = hutchinson(linear(torch.eye(SIZE).double()), drawn(*SHAPE), 2, torch.Generator())
    assert (found.mean, found.error) == (SIZE, 0.0)
    with pytest.raises(ValueError, match="probes must be 2 or more"):
        hutchinson(linear(torch.eye(SIZE)), drawn(*SHAPE), 1, torch.Generator())


def test_the_optimal_denoiser_of_two_images_keeps_the_direction_between_them():
    """D(y) = E[x | y], and its Jacobian is Cov[x | y] / sigma^2: one direction alone."""
    pair, sigma = drawn(2, *SHAPE, seed=10), 3.0

    def posterior(y: torch.Tensor) -> torch.Tensor:
        away = (y[:, None] - pair).flatten(2).square().sum(2)
        return torch.softmax(-away / (2 * sigma**2), 1)

    y = pair.mean(0) + 0.5 * drawn(*SHAPE, seed=11)
    matrix = jacobian(lambda z: (posterior(z) @ pair.flatten(1)).reshape(z.shape), y)
    p, between = posterior(y[None])[0], (pair[0] - pair[1]).flatten()
    variance = float(p[0] * p[1] * between.square().sum() / sigma**2)
    assert 0.1 < float(p[0]) < 0.9
    assert float(matrix.trace()) == pytest.approx(variance, rel=1e-10)
    assert asymmetry(matrix) < 1e-10
    modes = leading_modes(matrix, 2)
    assert modes.values.tolist() == pytest.approx([variance, 0.0], abs=1e-10)
    along = float((modes.vectors[0] @ between / between.norm()).abs())
    assert along == pytest.approx(1.0)


def test_leading_modes_are_eigenpairs_in_falling_order():
    matrix = drawn(SIZE, SIZE, seed=12)
    modes = leading_modes(matrix, 5)
    symmetric = (matrix + matrix.T) / 2
    assert torch.allclose(modes.vectors @ symmetric, modes.values[:, None] * modes.vectors)
    assert modes.values.tolist() == sorted(modes.values.tolist(), reverse=True)
    assert float(modes.values[0]) == pytest.approx(float(torch.linalg.eigvalsh(symmetric).max()))
    largest = modes.vectors.abs().argmax(1)
    assert bool((modes.vectors[torch.arange(5), largest] > 0).all())


def test_asymmetry_of_known_matrices():
    assert asymmetry(torch.eye(3)) == 0
    assert asymmetry(torch.tensor([[0.0, 1.0], [-1.0, 0.0]])) == pytest.approx(2.0)
    assert asymmetry(torch.tensor([[0.0, 1.0], [0.0, 0.0]])) == pytest.approx(2**0.5)
    assert asymmetry(torch.zeros(2, 2)) == 0


def test_the_affine_residual_is_the_share_of_the_bias():
    matrix, y = torch.eye(2), torch.tensor([3.0, 0.0])
    assert affine_residual(matrix, y, torch.tensor([3.0, 0.0])) == 0
    assert affine_residual(matrix, y, torch.tensor([3.0, 4.0])) == pytest.approx(0.8)


def test_a_linear_denoiser_without_mean_leaves_no_affine_residual():
    x = drawn(9, *SHAPE, seed=13)
    found, y = fit_wiener(torch.cat([x, -x])), drawn(*SHAPE, seed=14)
    matrix = jacobian(lambda z: found(z, 0.5), y)
    assert affine_residual(matrix, y, found(y[None], 0.5)[0]) < 1e-10

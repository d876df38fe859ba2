"""What a denoiser keeps of an image: the Jacobian of y -> D(y) (Kadkhodaie et al. 2024).

The optimal denoiser of y = x + sigma n is D(y) = E[x | y], and its Jacobian is symmetric,
Cov[x | y] / sigma^2, with eigenvalues from 0 up: directions of small eigenvalue are taken for
noise and shrunk. The trace, an effective dimension, weighs directions by how much of them is kept.
It counts none: a single eigenvalue is above 1 where y leaves open which of two distant images it
was, and the trace may then be above the rank. In the mean over y of its own distribution it is the
optimal squared error, summed over the pixels, divided by sigma^2; no linear denoiser's error is
less, so there, and only there, it is at most sum s / (s + sigma^2) over the variances s. For N
images these are N - 1 or fewer, and so is the rank, at every y.

A denoiser here maps (B, ...) to the same shape, each sample on its own. Then one backward pass
over copies of an image gives as many rows of its Jacobian as there are copies.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

Denoise: TypeAlias = Callable[[Tensor], Tensor]
TINY = 1e-30


@dataclass(frozen=True)
class Estimate:
    """A mean of independent draws."""

    mean: float
    error: float
    """Its standard error."""


def jacobian(denoise: Denoise, y: Tensor, batch_size: int = 64) -> Tensor:
    """The Jacobian at one image ``y`` (...) of d pixels: (d, d), row i the gradient of output i.

    ``batch_size``: rows computed at once. It takes d passes forward and backward.
    """
    units = torch.eye(y.numel(), dtype=y.dtype, device=y.device)
    rows = [_pulled_back(denoise, y, part) for part in units.split(batch_size)]
    return torch.cat(rows)


def hutchinson(
    denoise: Denoise, y: Tensor, probes: int, generator: torch.Generator, batch_size: int = 64
) -> Estimate:
    """The trace of the Jacobian at ``y`` (...): the mean of v^T J v over random signs v.

    Args:
        denoise, y: as for ``jacobian``.
        probes: draws of v, 2 or more (Hutchinson 1990, with Rademacher entries).
        generator: a CPU generator of the signs.
        batch_size: probes computed at once.

    Raises:
        ValueError: fewer than 2 probes, which have no standard error.
    """
    if probes < 2:
        raise ValueError(f"probes must be 2 or more, got {probes}")
    signs = 2 * torch.randint(2, (probes, y.numel()), generator=generator) - 1
    products = [
        (_pulled_back(denoise, y, v) * v).sum(1).double() for v in signs.to(y).split(batch_size)
    ]
    found = torch.cat(products)
    return Estimate(float(found.mean()), float(found.std() / probes**0.5))


def _pulled_back(denoise: Denoise, y: Tensor, vectors: Tensor) -> Tensor:
    """v^T J of each row v of ``vectors`` (B, d): (B, d)."""
    with torch.enable_grad():
        copies = y.detach().expand(len(vectors), *y.shape).clone().requires_grad_()
        output = denoise(copies)
        (pulled,) = torch.autograd.grad(output, copies, vectors.reshape(output.shape).to(output))
    return pulled.flatten(1)


@dataclass(frozen=True)
class Modes:
    """Eigenvectors of a symmetrised Jacobian, those of the largest eigenvalues first."""

    values: Tensor
    """(k,) float64."""
    vectors: Tensor
    """(k, d) float64 of length 1; the entry largest in size is positive."""


def leading_modes(matrix: Tensor, count: int) -> Modes:
    """The ``count`` leading eigenpairs of (J + J^T) / 2, for J (d, d)."""
    matrix = matrix.double()
    values, vectors = torch.linalg.eigh((matrix + matrix.T) / 2)
    values, rows = values.flip(0)[:count], vectors.T.flip(0)[:count]
    largest = rows.gather(1, rows.abs().argmax(1, keepdim=True))
    return Modes(values, rows * largest.sign())


def asymmetry(matrix: Tensor) -> float:
    """|J - J^T| / |J| by Frobenius norms: 0 for the optimal denoiser's, at most 2.

    0 for a matrix of zeros.
    """
    return float((matrix - matrix.T).norm() / matrix.norm().clamp(min=TINY))


def affine_residual(matrix: Tensor, y: Tensor, denoised: Tensor) -> float:
    """|D(y) - J y| / |D(y)|: 0 for a network without biases, whose output is J(y) y.

    Args:
        matrix: (d, d), the Jacobian at y.
        y, denoised: (...) of d pixels, an image and D(y).
    """
    d = denoised.flatten().to(matrix)
    return float((d - matrix @ y.flatten().to(matrix)).norm() / d.norm().clamp(min=TINY))

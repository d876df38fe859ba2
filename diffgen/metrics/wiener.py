"""The best linear denoiser of a set of images, the baseline of every other one.

With the set's mean m and covariance S it answers y = x + sigma n by (Wiener 1949)

    D(y) = m + S (S + sigma^2 I)^-1 (y - m),

the optimal denoiser of the Gaussian of that mean and covariance: it knows nothing else of the
images. What a network does no better, second moments alone explain.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Wiener:
    """A linear denoiser.

    Attributes:
        mean: (d,) float64, of an image's pixels.
        values: (r,) float64, variances along the principal directions.
        vectors: (r, d) float64, the directions, of length 1; the variance across them is 0.
    """

    mean: Tensor
    values: Tensor
    vectors: Tensor

    def __call__(self, y: Tensor, sigma: float) -> Tensor:
        """E[x | y] of ``y`` (B, ...) at noise of standard deviation ``sigma`` > 0; same shape."""
        along = (y.flatten(1).to(self.mean) - self.mean) @ self.vectors.T
        kept = along * (self.values / (self.values + sigma**2))
        return (self.mean + kept @ self.vectors).reshape(y.shape).to(y)

    def effective_dimension(self, sigma: float) -> float:
        """The trace of its Jacobian, sum s / (s + sigma^2) over the variances s."""
        return float((self.values / (self.values + sigma**2)).sum())

    def draw(self, noise: Tensor) -> Tensor:
        """Where the flow of this denoiser leads unit normal ``noise`` (B, ...): m + S^(1/2) noise.

        Along a direction of variance s, dy / d sigma = (y - D(y)) / sigma keeps
        (y - m) / sqrt(s + sigma^2), which is the noise itself as sigma grows.
        """
        along = noise.flatten(1).to(self.mean) @ self.vectors.T
        drawn = self.mean + (along * self.values.sqrt()) @ self.vectors
        return drawn.reshape(noise.shape).to(noise)


def fit_wiener(images: Tensor) -> Wiener:
    """The linear denoiser of least error on ``images`` (N, ...) floating, N >= 1.

    Their covariance is divided by N: it is that of these images, no estimate of others'.
    """
    rows = images.flatten(1).double()
    mean = rows.mean(0)
    rows = rows - mean
    if len(rows) < rows.shape[1]:  # fewer directions than pixels
        _, sizes, vectors = torch.linalg.svd(rows, full_matrices=False)
        return Wiener(mean, sizes.square() / len(rows), vectors)
    values, columns = torch.linalg.eigh(rows.T @ rows / len(rows))
    return Wiener(mean, values.clamp(min=0), columns.T)

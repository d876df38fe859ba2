"""The linear denoiser against its formula, its error and its own flow."""

import math
from itertools import pairwise

import pytest
import torch

from diffgen.metrics.wiener import fit_wiener

SHAPE = (3, 2, 3)
SIZE = math.prod(SHAPE)


def images(count: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(SIZE, SIZE, generator=generator, dtype=torch.float64)
    rows = torch.randn(count, SIZE, generator=generator, dtype=torch.float64) @ mixing + 0.3
    return rows.reshape(count, *SHAPE)


@pytest.mark.parametrize("count", [1, 5, SIZE, 200])
def test_it_is_the_formula_whether_images_or_pixels_are_more(count):
    x, sigma = images(count), 0.7
    y = images(4, seed=1)
    rows, noisy = x.flatten(1), y.flatten(1)
    mean, centred = rows.mean(0), rows - rows.mean(0)
    covariance = centred.T @ centred / count
    total = covariance + sigma**2 * torch.eye(SIZE, dtype=torch.float64)
    wanted = mean + (noisy - mean) @ torch.linalg.solve(total, covariance)
    found = fit_wiener(x)
    assert torch.allclose(found(y, sigma).flatten(1), wanted, atol=1e-9)
    trace = float(torch.linalg.solve(total, covariance).trace())
    assert found.effective_dimension(sigma) == pytest.approx(trace, abs=1e-9)


def test_no_other_linear_map_has_less_error_on_its_images():
    """The error of mean + K (y - mean) is |K - I|^2 in the metric of S, plus sigma^2 |K|^2."""
    x, sigma = images(60), 1.3
    found, eye = fit_wiener(x), torch.eye(SIZE, dtype=torch.float64)
    centred = x.flatten(1) - found.mean
    covariance = centred.T @ centred / len(x)

    def error(gain: torch.Tensor) -> float:
        off = gain - eye
        return float((off @ covariance @ off.T).trace() + sigma**2 * gain.square().sum())

    best = found((eye + found.mean).reshape(-1, *SHAPE), sigma).flatten(1) - found.mean
    assert error(best) == pytest.approx(sigma**2 * found.effective_dimension(sigma))
    for seed in range(5):
        noise = torch.randn(SIZE, SIZE, generator=torch.Generator().manual_seed(seed))
        assert error(best + 0.01 * noise.double()) > error(best)


def test_of_one_image_it_answers_that_image():
    x = images(1)
    found = fit_wiener(x)
    assert torch.allclose(found(images(3, seed=2), 0.5), x.expand(3, *SHAPE), atol=1e-12)
    assert found.effective_dimension(0.5) == pytest.approx(0, abs=1e-12)


def test_drawing_is_where_its_own_flow_leads():
    """x_t = (1 - t) x0 + t eps from t = 1 down by Heun's rule: dx / dt = (x - D) / t."""
    found = fit_wiener(images(40))
    noise = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(3)).double()
    times = torch.linspace(1, 0, 2001).double().tolist()

    def velocity(x: torch.Tensor, t: float) -> torch.Tensor:
        if t == 1:
            return x - found.mean.reshape(SHAPE)
        return (x - found(x / (1 - t), t / (1 - t))) / t

    x = noise
    for t, s in pairwise(times):
        slope = velocity(x, t)
        ahead = x + (s - t) * slope
        x = ahead if s == 0 else x + (s - t) * (slope + velocity(ahead, s)) / 2
    assert torch.allclose(found.draw(noise), x, atol=2e-3)

"""A flow model as a denoiser of y = x + sigma n."""

import pytest
import torch

from diffgen.metrics.jacobian import jacobian
from diffgen.sampling.additive import AdditiveDenoiser, flow_time
from tests.tiny import build


@pytest.fixture(params=["x0", "velocity"])
def pipe(request):
    return build(prediction=request.param, num_classes=0)


def test_the_flow_time_is_that_of_the_noise_over_the_image():
    for sigma in (0.1, 1.0, 9.0):
        t = flow_time(sigma)
        assert t / (1 - t) == pytest.approx(sigma)


def test_it_answers_the_models_x0_of_the_scaled_image(pipe):
    y, sigma = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0)), 1.5
    t = sigma / (1 + sigma)
    model, labels = pipe.transformer.eval(), torch.zeros(3, dtype=torch.int64)
    x_t, times = (1 - t) * y, torch.full((3,), t)
    with torch.no_grad():
        out = model(x_t, times * 1000, labels)
        wanted = out if pipe.transformer.config.prediction == "x0" else x_t - t * out
        found = AdditiveDenoiser(pipe.denoiser([0]), sigma, 0)(y)
    assert torch.allclose(found, wanted, atol=1e-5)


def test_its_jacobian_is_that_of_the_model_times_1_less_t(pipe):
    y, sigma = torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(1)), 0.6
    t, denoiser = flow_time(sigma), pipe.denoiser([0])
    found = jacobian(AdditiveDenoiser(denoiser, sigma, 0), y)
    labels = torch.zeros(1, dtype=torch.int64)
    inner = torch.autograd.functional.jacobian(
        lambda x: denoiser(x[None], t, labels, None).x0[0], (1 - t) * y
    )
    wanted = (1 - t) * inner.reshape(192, 192)
    assert float(wanted.norm()) > 0.1
    assert torch.allclose(found, wanted, atol=1e-4)

"""Rectified flow: its identities, the model's time conventions, and the densities of times."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from diffgen.config.model import TimeConvention
from diffgen.config.process import LogitNormalTimes, UniformTimes
from diffgen.processes import Flow, draw_time

CONVENTIONS = [
    TimeConvention(direction=direction, scale=scale)
    for direction, scale in itertools.product(("noise", "data"), (1, 1000))
]
FLOW = Flow(TimeConvention())


def draw(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


X0, EPS = draw(5, 3, 4, 6), draw(5, 3, 4, 6, seed=1)
TIMES = torch.tensor([0.001, 0.25, 0.5, 0.9, 1.0], dtype=torch.float64)


def test_the_ends_of_the_path_are_the_image_and_the_noise():
    assert torch.equal(FLOW.add_noise(X0, EPS, torch.zeros(5)), X0)
    assert torch.equal(FLOW.add_noise(X0, EPS, torch.ones(5)), EPS)


@settings(max_examples=30, deadline=None)
@given(st.floats(1e-3, 1.0), st.integers(0, 2**16))
def test_x0_velocity_and_noise_are_three_views_of_one_point(time, seed):
    x0, eps = draw(1, 2, 3, 3, seed=seed), draw(1, 2, 3, 3, seed=seed + 1)
    t = torch.tensor([time], dtype=torch.float64)
    x_t, v = FLOW.add_noise(x0, eps, t), FLOW.velocity(x0, eps)
    torch.testing.assert_close(FLOW.x0_from_velocity(x_t, v, t), x0)
    torch.testing.assert_close(FLOW.velocity_from_x0(x_t, x0, t), v, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(x_t + (1 - time) * v, eps)  # the noise end of the straight line


def test_velocity_is_the_derivative_of_the_path():
    step = 1e-6
    t = TIMES - 2 * step
    ahead, behind = FLOW.add_noise(X0, EPS, t + step), FLOW.add_noise(X0, EPS, t - step)
    derivative = (ahead - behind) / (2 * step)
    torch.testing.assert_close(FLOW.velocity(X0, EPS), derivative, rtol=0, atol=1e-8)


class Reference(nn.Module):
    """A velocity model in diffgen's terms (t in [0, 1], 1 = noise, v = eps - x0)."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([0.3, -0.7, 1.1], dtype=torch.float64))

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        a, b, c = self.weight
        t, y = t[:, None, None, None], y[:, None, None, None]
        return a * x + b * t * x.roll(1, -1) + c * (t * t + y)


class Converted(nn.Module):
    """The same model, as one trained in another convention would answer."""

    def __init__(self, convention: TimeConvention) -> None:
        super().__init__()
        self.convention = convention
        self.inner = Reference()

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        t = t / self.convention.scale
        if self.convention.direction == "noise":
            return self.inner(x, t, y)
        return -self.inner(x, 1 - t, y)  # time runs towards the data, and so does the velocity


@pytest.mark.parametrize("convention", CONVENTIONS, ids=str)
def test_a_model_of_any_convention_gives_the_same_x0_and_loss(convention):
    flow, model, y = Flow(convention), Converted(convention), torch.arange(5)
    x_t = FLOW.add_noise(X0, EPS, TIMES)
    expected = x_t - TIMES[:, None, None, None] * Reference()(x_t, TIMES, y)
    torch.testing.assert_close(
        flow.denoise(model, x_t, TIMES, y).x0.double(), expected, atol=1e-5, rtol=0
    )
    loss = (Reference()(x_t, TIMES, y) - (EPS - X0)).square().mean(dim=(1, 2, 3))
    found = flow.loss(model, X0, EPS, TIMES, y)
    assert found.shape == (5,)
    torch.testing.assert_close(found.double(), loss, rtol=1e-5, atol=0)


@pytest.mark.parametrize(
    ("direction", "scale", "pure_noise", "clean"),
    [("noise", 1, 1, 0), ("noise", 1000, 1000, 0), ("data", 1, 0, 1), ("data", 1000, 0, 1000)],
)
def test_the_models_own_time_at_both_ends(direction, scale, pure_noise, clean):
    flow = Flow(TimeConvention(direction=direction, scale=scale))
    assert flow.own_time(torch.tensor([1.0, 0.0])).tolist() == [pure_noise, clean]


def test_loss_worked_out_by_hand():
    """One pixel: x0 = 2, eps = -1, so v = -3; the model answers 0 and errs by 9."""

    class Zero(nn.Module):
        def forward(self, x, t, y):
            assert x.flatten().tolist() == [0.5]  # half way from 2 to -1
            assert t.tolist() == [500.0]
            return torch.zeros_like(x)

    x0, eps = torch.full((1, 1, 1, 1), 2.0), torch.full((1, 1, 1, 1), -1.0)
    loss = FLOW.loss(Zero(), x0, eps, torch.tensor([0.5]), torch.tensor([0]))
    assert loss.tolist() == [9.0]


def test_denoise_computes_in_the_models_dtype_and_answers_in_fp32():
    """As a bf16 model on a GPU: the input is cast for the model only."""

    class Half(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones((), dtype=torch.bfloat16))

        def forward(self, x, t, y):
            assert x.dtype == torch.bfloat16
            return torch.zeros_like(x)

    x_t = torch.full((1, 1, 1, 1), 1.2345678)
    out = FLOW.denoise(Half(), x_t, torch.ones(1), torch.zeros(1, dtype=torch.long))
    assert torch.equal(out.x0, x_t)


def times(density, count: int = 4000) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.stack([draw_time(density, generator) for _ in range(count)])


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (-0.8, 0.5), (1.0, 2.0)])
def test_logit_normal_times_have_the_quantiles_of_their_formula(mean, std):
    """logit(t) is normal, so t's quantiles are sigmoid(mean + std z); 0.9 normal lies at 1.2816."""
    drawn = times(LogitNormalTimes(mean=mean, std=std))
    assert drawn.shape == (4000,)
    assert drawn.dtype == torch.float32
    for share, z in ((0.1, -1.2816), (0.5, 0.0), (0.9, 1.2816)):
        below = (drawn < 1 / (1 + math.exp(-mean - std * z))).float().mean().item()
        assert below == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / 4000))


def test_uniform_times_are_uniform():
    drawn = times(UniformTimes())
    assert drawn.min() >= 0
    assert drawn.max() <= 1
    for share in (0.1, 0.5, 0.9):
        below = (drawn < share).float().mean().item()
        assert below == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / 4000))
    assert drawn.var().item() == pytest.approx(1 / 12, rel=0.05)


class Clean(nn.Module):
    """An x0 model that answers with what it was given to answer."""

    def __init__(self, answer: Tensor) -> None:
        super().__init__()
        self.answer = nn.Parameter(answer)

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        return self.answer


def test_an_x0_model_denoises_to_its_output_and_loses_nothing_when_right():
    flow = Flow(TimeConvention(), "x0")
    x_t, y = FLOW.add_noise(X0, EPS, TIMES), torch.arange(5)
    right = Clean(X0)
    assert torch.equal(flow.denoise(right, x_t, TIMES, y).x0, X0.float())
    assert flow.loss(right, X0, EPS, TIMES, y).max() < 1e-12


def test_the_loss_of_an_x0_model_is_that_of_its_velocity_bounded_near_the_image():
    flow = Flow(TimeConvention(), "x0")
    losses = flow.loss(Clean(X0 + 0.1), X0, EPS, TIMES, torch.arange(5)).double()
    expected = (0.1 / TIMES.clamp(min=0.2)) ** 2
    torch.testing.assert_close(losses, expected, rtol=1e-5, atol=0)

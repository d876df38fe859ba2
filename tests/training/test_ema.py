"""Averages of the weights against the profiles they are defined by."""

import numpy as np
import pytest
import torch
from torch import nn

from diffgen.config.ema import ConstantEMAConfig, PowerEMAConfig
from diffgen.training.ema import EMA, average_names, gamma_of_width


class Scalar(nn.Module):
    def __init__(self, value: float = 0.0) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor([value], dtype=torch.float64))


def follow(config, path, batch: int, start: float = 1e6) -> list[float]:
    """The averages after a training whose only weight goes along ``path``, one step a value."""
    model = Scalar(start)
    ema = EMA(config, model)
    for step, value in enumerate(path, start=1):
        model.w.data.fill_(value)
        ema.update(model, step * batch, batch)
    return [average.weights["w"].item() for average in ema.averages]


@pytest.mark.parametrize(("width", "gamma"), [(0.05, 16.97), (0.10, 6.94)])
def test_gamma_of_the_published_widths(width, gamma):
    """Karras et al. 2024, section 3.1."""
    assert gamma_of_width(width) == pytest.approx(gamma, abs=0.005)


@pytest.mark.parametrize("width", [0.01, 0.05, 0.1, 0.2, 0.25, 0.28])
def test_gamma_gives_a_profile_of_that_width(width):
    """Relative standard deviation of t^gamma on [0, 1], from its moments in closed form."""
    gamma = gamma_of_width(width)
    mean, square = (gamma + 1) / (gamma + 2), (gamma + 1) / (gamma + 3)
    assert (square - mean**2) ** 0.5 == pytest.approx(width, rel=1e-9)
    assert gamma > 0


@pytest.mark.parametrize("batch", [1, 64])
def test_the_power_average_weighs_by_its_profile(batch):
    """Step k counts as the integral of (gamma + 1) s^gamma / T^(gamma + 1) over its images."""
    steps = 50
    path = np.random.default_rng(0).normal(size=steps)
    found = follow(PowerEMAConfig(), path, batch)
    k = np.arange(1, steps + 1)
    for value, width in zip(found, (0.05, 0.10), strict=True):
        power = gamma_of_width(width) + 1
        weights = (k / steps) ** power - ((k - 1) / steps) ** power
        assert weights.sum() == pytest.approx(1)
        assert value == pytest.approx(weights @ path, abs=1e-9)


def test_the_first_step_forgets_the_initial_weights():
    assert follow(PowerEMAConfig(), [2.5], 8) == [2.5, 2.5]


def test_the_constant_average_halves_in_its_half_life():
    """A jump from 1 to 0 is half forgotten after ``half_life_images``, at any batch size."""
    config = ConstantEMAConfig(half_life_images=4096, ramp_up=1e9)
    for batch in (1024, 256):
        (value,) = follow(config, [0.0] * (4096 // batch), batch, start=1.0)
        assert value == pytest.approx(0.5, rel=1e-6)
        (value,) = follow(config, [0.0] * (3 * 4096 // batch), batch, start=1.0)
        assert value == pytest.approx(0.125, rel=1e-6)


def test_the_half_life_ramps_up_with_the_images_seen():
    """At step k of batch b it is min(h, r k b): written out."""
    config = ConstantEMAConfig(half_life_images=1000, ramp_up=0.5)
    path = np.random.default_rng(1).normal(size=30)
    expected = 3.0
    for k, value in enumerate(path, start=1):
        beta = 0.5 ** (100 / min(1000, 0.5 * 100 * k))
        expected = beta * expected + (1 - beta) * value
    (found,) = follow(config, path, 100, start=3.0)
    assert found == pytest.approx(expected, rel=1e-6)


def test_every_parameter_is_averaged_and_none_shared_with_the_model():
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))
    ema = EMA(PowerEMAConfig(), model)
    names = dict(model.named_parameters()).keys()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    with torch.no_grad():
        for p in model.parameters():
            p.add_(1.0)
    for average in ema.averages:
        assert average.weights.keys() == names
        for name, weights in average.weights.items():
            assert torch.equal(weights, before[name])
            assert not weights.requires_grad
    ema.update(model, 200, 100)
    narrow, wide = (average.weights["0.weight"] for average in ema.averages)
    for weights, width in ((narrow, 0.05), (wide, 0.10)):
        share = 1 - 0.5 ** (gamma_of_width(width) + 1)
        torch.testing.assert_close(weights, before["0.weight"] + share)


def test_the_preview_is_the_tracked_average_nearest_to_the_export():
    for export, name in ((0.10, "power-0.1"), (0.06, "power-0.05"), (0.15, "power-0.1")):
        assert EMA(PowerEMAConfig(export=export), Scalar()).preview.name == name
    assert average_names(PowerEMAConfig()) == ["power-0.05", "power-0.1"]
    assert EMA(ConstantEMAConfig(), Scalar()).preview.name == "constant"

"""The loss of a batch: its randomness belongs to the samples."""

import math

import pytest
import torch
from torch import Tensor, nn

from diffgen.config.model import TimeConvention
from diffgen.config.process import UniformTimes
from diffgen.processes import Flow
from diffgen.training.draws import draw
from diffgen.training.step import Objective

FLOW = Flow(TimeConvention(scale=1))
NULL = 8


def batch(numbers) -> dict:
    """Grey images of side 2; the label of sample n is n mod 8."""
    numbers = torch.as_tensor(list(numbers))
    images = (numbers % 5)[:, None, None, None].float().expand(-1, 3, 2, 2) / 4 - 0.5
    crop = torch.tensor([2.0, 2, 0, 0]).expand(len(numbers), 4)
    return {"image": images, "crop": crop, "label": numbers % 8, "number": numbers}


class Noting(nn.Module):
    """Answers with velocity 0 and keeps what it was asked."""

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        self.x, self.t, self.y = x, t, y
        return torch.zeros_like(x)


def loss(model: nn.Module, numbers, **options) -> Tensor:
    settings = {"seed": 3, "null_label": NULL, "class_dropout": 0.25, **options}
    return Objective(FLOW, device=torch.device("cpu"), **settings)(model, batch(numbers))


def test_a_sample_meets_the_same_randomness_in_any_batch():
    together = draw(FLOW.draw_time, 3, list(range(10)), (3, 4, 6))
    torch.manual_seed(9)
    some = draw(FLOW.draw_time, 3, [7, 0, 4], (3, 4, 6))
    for all_of_it, part in zip(together, some, strict=True):
        assert torch.equal(part, all_of_it[[7, 0, 4]])
    assert [tuple(part.shape) for part in some] == [(3,), (3,), (3, 3, 4, 6)]


def test_other_seeds_and_numbers_meet_other_randomness():
    first = draw(FLOW.draw_time, 3, list(range(5)), (4,))
    other = draw(FLOW.draw_time, 4, list(range(5)), (4,))
    for a, b in zip(first, other, strict=True):
        assert not (a == b).any()
        assert len(a.unique(dim=0)) == 5


def test_the_density_of_times_is_the_configured_one():
    times = draw(Flow(TimeConvention(), times=UniformTimes()).draw_time, 0, list(range(2000)), ())[
        0
    ]
    assert times.var().item() == pytest.approx(1 / 12, rel=0.1)
    times = draw(FLOW.draw_time, 0, list(range(2000)), ())[0]
    assert torch.logit(times).std().item() == pytest.approx(1, rel=0.1)


def test_labels_are_dropped_at_the_rate_asked_for_and_the_noise_is_unit():
    model, numbers = Noting(), range(4000)
    loss(model, numbers)
    dropped = model.y == NULL
    rate = dropped.float().mean().item()
    assert rate == pytest.approx(0.25, abs=4 * math.sqrt(0.25 * 0.75 / 4000))
    assert torch.equal(model.y[~dropped], batch(numbers)["label"][~dropped])
    # Dropping tells nothing about the time.
    correlation = torch.corrcoef(torch.stack([dropped.float(), model.t]))[0, 1]
    assert abs(correlation) < 4 / math.sqrt(4000)


@pytest.mark.parametrize(("rate", "dropped"), [(0.0, False), (0.999999, True)])
def test_none_or_all_are_dropped(rate, dropped):
    model = Noting()
    loss(model, range(50), class_dropout=rate)
    assert (model.y == NULL).all() if dropped else (model.y < NULL).all()


def test_an_unconditional_model_gets_its_only_label():
    model = Noting()
    loss(model, range(20), null_label=0)
    assert not model.y.any()


def test_the_loss_is_the_mean_over_the_samples_of_the_process():
    """A model that answers 0 pays |eps - x0|^2."""
    model, numbers = Noting(), [5, 11, 2]
    t, _, eps = draw(FLOW.draw_time, 3, numbers, (3, 2, 2))
    x0 = batch(numbers)["image"]
    found = loss(model, numbers)
    torch.testing.assert_close(found, (eps - x0).square().mean())
    assert torch.equal(model.t, t)
    weights = t[:, None, None, None]
    torch.testing.assert_close(model.x, (1 - weights) * x0 + weights * eps)
    parts = torch.stack([loss(model, [n]) for n in numbers])
    torch.testing.assert_close(found, parts.mean())

"""The route of a training batch: it belongs to the samples, and none is taken unless asked for."""

import torch

from diffgen.config.model import TimeConvention
from diffgen.config.process import FlowConfig
from diffgen.config.route import RouteConfig
from diffgen.models.route import draw_route
from diffgen.processes import build_process
from diffgen.training.step import Objective
from tests.tiny import build

ROUTE = RouteConfig(share=0.25, first=1, last=2)


def objective(**settings) -> Objective:
    common = {"seed": 3, "null_label": 3, "class_dropout": 0.1, "patch": 2, "depth": 3}
    process = build_process(FlowConfig(), TimeConvention(), "velocity")
    return Objective(process, device=torch.device("cpu"), **{**common, **settings})


def batch(numbers) -> dict:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(10, 3, 8, 12, generator=generator)
    numbers = torch.tensor(numbers)
    return {"number": numbers, "image": images[numbers], "label": numbers % 3}


def noted(numbers, depth=3, **settings) -> list:
    """What ``route`` the model was given."""
    model, given = build(depth=depth).transformer, []
    model.register_forward_pre_hook(
        lambda _, args, told: given.append(told.get("route")), with_kwargs=True
    )
    objective(depth=depth, **settings)(model, batch(numbers))
    return given


def test_each_sample_has_the_route_of_its_number():
    (route,) = noted([7, 2], route=ROUTE)
    assert (route.first, route.last) == (1, 2)
    assert torch.equal(route.kept, draw_route(3, [7, 2], 24, 0.25, 1, 2).kept)
    assert route.kept.shape == (2, 18)


def test_none_is_taken_unless_asked_for():
    assert noted([7, 2]) == [None]


def test_the_loss_does_not_depend_on_how_a_batch_is_cut():
    model = build(depth=3).transformer
    routed = objective(route=ROUTE)
    whole = routed(model, batch([4, 1, 8, 5]))
    parts = torch.stack([routed(model, batch(part)) for part in ([4, 1], [8, 5])])
    torch.testing.assert_close(parts.mean(), whole)
    assert not torch.equal(objective()(model, batch([4, 1, 8, 5])), whole)


def test_without_an_end_the_tokens_are_back_before_the_last_four_blocks():
    (route,) = noted([0], depth=7, route=RouteConfig(first=1))
    assert (route.first, route.last) == (1, 3)

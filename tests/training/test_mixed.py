"""Images of mixed sizes: packed, padded and one by one they give the same loss and gradients."""

import math

import pytest
import torch
from torch import Tensor

from diffgen import DiT
from diffgen.config.model import TimeConvention
from diffgen.config.process import DDPMConfig
from diffgen.data.budget import cut_to_budget
from diffgen.processes import DDPM, Flow
from diffgen.training.mixed import mixed_losses
from diffgen.training.step import Objective

SHAPES = [(8, 8), (4, 12), (2, 2), (6, 8), (12, 4)]
PATCH = 2
FLOW = Flow(TimeConvention(), "velocity")
POSITIONS = [
    {"kind": "sincos"},
    {"kind": "rope", "scaling": "yarn", "temperature": "log_ratio_2x"},
    {"kind": "rpe2d", "range_rows": 8, "range_columns": 8, "additive": True},
]


def tiny(**options) -> DiT:
    """A model with drawn weights, so that every path is open."""
    settings = {"sample_size": (8, 8), "hidden_size": 32, "depth": 2, "num_heads": 2}
    model = DiT(**{**settings, "patch_size": PATCH, "num_classes": 4, **options})
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * 0.15)
    return model


def batch() -> dict:
    generator = torch.Generator().manual_seed(0)
    count = len(SHAPES)
    return {
        "image": [torch.rand(3, *shape, generator=generator) * 2 - 1 for shape in SHAPES],
        "crop": torch.tensor([[h + 2.0, w + 4.0, 1.0, 2.0] for h, w in SHAPES]),
        "label": torch.arange(count) % 4,
        "number": torch.arange(40, 40 + count),
    }


def one_by_one(found: dict) -> list[dict]:
    """The same samples as batches of a single image, which takes the way of equal sizes."""
    return [
        {
            "image": found["image"][i][None],
            **{name: found[name][i : i + 1] for name in ("crop", "label", "number")},
        }
        for i in range(len(SHAPES))
    ]


def graded(model: DiT, loss: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def objective(process=FLOW, **options) -> Objective:
    settings = {"seed": 3, "null_label": 4, "class_dropout": 0.5, "patch": PATCH, **options}
    return Objective(process, device=torch.device("cpu"), **settings)


def assert_same_three_ways(model: DiT, **options) -> None:
    losses, grads = {}, {}
    for name, padded in (("packed", False), ("padded", True)):
        losses[name] = objective(padded=padded, **options)(model, batch())
        grads[name] = graded(model, losses[name])
    single = objective(**options)
    losses["single"] = sum(single(model, one) for one in one_by_one(batch())) / len(SHAPES)
    grads["single"] = graded(model, losses["single"])
    assert losses["single"] > 0.1
    for name in ("packed", "padded"):
        torch.testing.assert_close(losses[name], losses["single"], rtol=1e-5, atol=1e-6)
        assert grads[name].keys() == grads["single"].keys()
        for key, grad in grads[name].items():
            scale = grads["single"][key].abs().max().item()
            torch.testing.assert_close(
                grad, grads["single"][key], rtol=0, atol=1e-5 * max(scale, 1), msg=key
            )


@pytest.mark.parametrize("position", POSITIONS, ids=lambda p: p["kind"])
def test_a_flow_has_the_same_loss_and_gradients_packed_padded_and_single(position):
    rpe = {"share_positions": 1} if position["kind"] == "rpe2d" else {}
    assert_same_three_ways(tiny(position=position), **rpe)


def test_with_micro_conditioning_and_adaln_lora():
    model = tiny(micro="canvas", adaln_rank=8)
    assert_same_three_ways(model, crop=True, micro_dropout=0.4)


@pytest.mark.parametrize("kind", ["sincos", "rpe2d"])
def test_with_crops_that_keep_their_place(kind):
    share = 1 if kind == "rpe2d" else None
    model = tiny(crop_coords=True, position={"kind": kind})
    assert_same_three_ways(model, crop=True, share_positions=share)


def test_an_x0_model_of_a_flow():
    process = Flow(TimeConvention(direction="data", scale=1), "x0")
    assert_same_three_ways(tiny(prediction="x0"), process=process)


def test_ddpm_with_a_learned_variance():
    process = DDPM(TimeConvention(), "eps", DDPMConfig(learned_variance=True))
    assert_same_three_ways(tiny(prediction="eps", out_channels=6), process=process)


def test_every_image_counts_alike_whatever_its_length():
    model, found = tiny(), batch()
    each = [objective()(model, one) for one in one_by_one(found)]
    generator = torch.Generator().manual_seed(2)
    eps = [torch.randn(z.shape, generator=generator) for z in found["image"]]
    t, y = torch.rand(5, generator=generator), found["label"]
    losses = mixed_losses(FLOW, model, found["image"], eps, t, y, PATCH)
    assert losses.shape == (5,)
    for i in range(5):
        alone = FLOW.loss(model, found["image"][i][None], eps[i][None], t[i : i + 1], y[i : i + 1])
        torch.testing.assert_close(losses[i : i + 1], alone)
    torch.testing.assert_close(objective()(model, found), torch.stack(each).mean())


def test_positions_are_those_of_the_sample_or_shared_by_the_batch():
    model = tiny(position={"kind": "rpe2d"})
    seen = []
    place = model.encoding.place
    model.encoding.place = lambda c, s, generator: seen.append(generator) or place(c, s, generator)
    for share in (1, 8):
        objective(share_positions=share)(model, batch())
    states = [[g.initial_seed() for g in generators] for generators in seen]
    assert len(set(states[0])) == 5
    assert len(set(states[1])) == 1  # 40 to 44 are of one batch of 8


def test_crops_are_told_in_the_models_pixels_or_not_at_all():
    model, told, seen = tiny(micro="pixels"), [], []
    model.crop_embedder.register_forward_pre_hook(lambda _, args: told.append(args[0]))

    def halved(images: Tensor, numbers: list[int], noise: None) -> Tensor:
        return torch.nn.functional.avg_pool2d(images, 2)

    many = one_by_one(batch())[0]
    many = {name: values.repeat(600, *[1] * (values.ndim - 1)) for name, values in many.items()}
    many["number"] = torch.arange(600)
    forward = model.condition
    model.condition = lambda *args: seen.append(args[4]) or forward(*args)
    objective(crop=True, micro_dropout=0.3, encode=halved)(model, many)
    share = (~seen[0]).float().mean().item()
    assert share == pytest.approx(0.3, abs=4 * math.sqrt(0.21 / 600))
    assert told[0].unique(dim=0).tolist() == [[5, 6, 0.5, 1]]


class TestBudget:
    def test_pieces_keep_to_it_and_leave_nothing_out(self):
        found = batch()
        pieces = list(cut_to_budget(found, PATCH, 20))
        tokens = [
            sum(z.shape[1] * z.shape[2] // PATCH**2 for z in piece["image"]) for piece in pieces
        ]
        assert tokens == [16, 13, 12, 12]
        assert torch.cat([piece["number"] for piece in pieces]).tolist() == list(range(40, 45))
        images = [z for piece in pieces for z in piece["image"]]
        assert all(a is b for a, b in zip(images, found["image"], strict=True))

    def test_without_a_budget_the_batch_is_whole(self):
        (piece,) = cut_to_budget(batch(), PATCH, None)
        assert len(piece["image"]) == 5

    def test_images_of_one_size_are_cut_too(self):
        found = {"image": torch.zeros(6, 3, 8, 8), "number": torch.arange(6)}
        assert [len(p["image"]) for p in cut_to_budget(found, PATCH, 40)] == [2, 2, 2]
        assert [len(p["image"]) for p in cut_to_budget(found, PATCH, 5)] == [1] * 6

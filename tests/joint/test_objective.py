"""What an adapter learns from: pairs at two times, labels, dropout, and the losses by branch."""

from typing import Any

import pytest
import torch
from torch import nn

from diffgen.config.joint import IndependentTimes
from diffgen.config.process import DDPMConfig, MinSNRWeighting
from diffgen.data.shapes import Shapes
from diffgen.joint.adapter import JointAdapter
from diffgen.joint.maps import as_picture
from diffgen.joint.training import BINS, Joined, JointObjective, Tally, named_losses
from diffgen.lacon.conditions import DEPTH
from diffgen.lacon.maps import maps_of
from diffgen.lacon.training import MappedData, Reader
from diffgen.processes import build_process
from tests.joint.adapters import random_adapter
from tests.lacon_runs import pipeline
from tests.late import RANDOM

CPU = torch.device("cpu")
IMAGES = Shapes(16, 16, "train")
DATA = MappedData(IMAGES, 0, DEPTH)
SOME = range(32)
CHAIN = DDPMConfig(num_train_timesteps=25, learned_variance=True)


def objective_of(pipe, process=None, **options) -> JointObjective:
    given = {
        "null_label": pipe.transformer.num_classes,
        "seed": 0,
        "times": IndependentTimes(clean=0.4),
        "class_dropout": 0.2,
        "joint_dropout": 0.3,
        **options,
    }
    return JointObjective(
        process=process or pipe.denoiser([]).process,
        reader=Reader(DEPTH, CPU),
        labels=torch.arange(8),
        tally=Tally(CPU),
        **given,
    )


def batch_of(numbers) -> dict:
    samples = [DATA[number] for number in numbers]
    parts = {name: torch.stack([sample[name] for sample in samples]) for name in ("image", "map")}
    labels = torch.tensor([sample["label"] for sample in samples])
    return {**parts, "label": labels, "number": torch.tensor(list(numbers))}


class Told(nn.Module):
    """Notes what a model is told, and answers nothing, or as ``model`` does."""

    def __init__(self, model: nn.Module | None = None) -> None:
        super().__init__()
        self.model = model

    def forward(self, x, t, y, **told: Any):
        self.x, self.t, self.y, self.told = x, t, y, told
        return torch.zeros_like(x) if self.model is None else self.model(x, t, y, **told)


@pytest.fixture(scope="module")
def many() -> tuple[Told, JointObjective, dict]:
    """What a model is told of 1000 pairs."""
    told, objective, batch = Told(), objective_of(pipeline()), batch_of(range(1000))
    objective(told, batch)
    return told, objective, batch


def test_of_as_many_pairs_the_image_the_condition_and_both_are_told_no_class(many):
    told, _, batch = many
    image, condition = told.y.chunk(2)
    for which, share in (
        ((image == 8) & (condition < 8), 0.2),
        ((image < 8) & (condition == 8), 0.2),
        ((image == 8) & (condition == 8), 0.2),
        ((image == batch["label"]) & (condition == batch["label"]), 0.4),
    ):
        assert float(which.float().mean()) == pytest.approx(share, abs=0.04)


def test_pairs_without_joint_attention_are_as_many_as_asked_for(many):
    strength = many[0].told["strength"]
    assert set(strength.tolist()) == {0, 1}
    assert float(strength.mean()) == pytest.approx(0.7, abs=0.04)


def test_a_clean_picture_is_seen_as_it_is_and_not_learnt(many):
    told, objective, batch = many
    maps = maps_of(IMAGES, [DATA.order.index(n) for n in range(1000)], DEPTH)
    x0 = torch.cat([batch["image"], as_picture(maps, DEPTH)])
    clean = told.t == 0
    assert float(clean.float().mean()) == pytest.approx(0.2, abs=0.02)
    assert torch.equal(told.x[clean], x0[clean])
    sums = objective.tally.take()
    assert float(sums[1].sum()) == 2000 - int(clean.sum())
    assert not (told.x[~clean] == x0[~clean]).flatten(1).all(dim=1).any()


def test_a_chain_is_told_its_first_step_of_a_clean_picture_as_when_it_draws():
    """It knows no time before; the weights of its losses stay finite there."""
    pipe = pipeline(chain=CHAIN, prediction="v", out_channels=6)
    model = pipe.transformer
    learnt = CHAIN.model_copy(update={"weighting": MinSNRWeighting()})
    process = build_process(learnt, model.convention, "v")
    told = Told(Joined(model, random_adapter(model, DEPTH)))
    objective, batch = objective_of(pipe, process, times=IndependentTimes(clean=1)), batch_of(SOME)
    assert objective(told, batch).isfinite()
    maps = maps_of(IMAGES, [DATA.order.index(n) for n in SOME], DEPTH)
    x0 = torch.cat([batch["image"], as_picture(maps, DEPTH)])
    assert process.levels(torch.tensor(1 / 25))[0] < 0.999
    clean = (told.x - x0).abs().flatten(1).amax(dim=1) < 1e-5
    assert torch.equal(clean[:32], ~clean[32:])
    assert (told.t[clean] == 0).all()
    assert float(told.t[~clean].mean()) > 0.3 * model.convention.scale


@pytest.mark.parametrize("options", [{}, {"position": RANDOM}], ids=["sincos", "drawn positions"])
def test_of_a_pair_the_loss_is_its_own_whatever_the_batch(options):
    pipe = pipeline(**options)
    joined = Joined(pipe.transformer, random_adapter(pipe.transformer, DEPTH))
    objective = objective_of(pipe)
    with torch.no_grad():
        together = objective(joined, batch_of([4, 5, 6, 7]))
        alone = [objective(joined, batch_of([n])) for n in (4, 5, 6, 7)]
        again = objective(joined, batch_of([4, 5, 6, 7]))
        other = objective_of(pipe, seed=1)(joined, batch_of([4, 5, 6, 7]))
    assert together == again
    assert together.item() == pytest.approx(float(torch.stack(alone).mean()), rel=1e-5)
    assert abs(float(other - together)) > 1e-4


@pytest.mark.parametrize("inference", ["random", "linspace"])
def test_an_image_and_its_condition_draw_the_same_positions_in_training(inference):
    """Whatever the encoding does when it draws images."""
    pipe = pipeline(position={**RANDOM, "inference": inference, "plain_share": 0.0})
    told = Told()
    objective_of(pipe)(told, batch_of([4, 5, 6]))
    encoding, sizes = pipe.transformer.encoding, torch.full((6, 1, 2), 8.0)
    coords = torch.arange(8.0)[:, None].expand(6, 8, 2)
    image, condition = encoding.place(coords, sizes, told.told["generator"]).chunk(2)
    assert torch.equal(image, condition)
    assert len({rows.numpy().tobytes() for rows in image}) == 3
    assert (image == image.round()).all()  # fixed ones are spread over the range
    assert (image < 12).all()


def test_the_losses_by_branch_and_time_add_up_to_the_loss():
    pipe = pipeline()
    joined = Joined(pipe.transformer, random_adapter(pipe.transformer, DEPTH))
    objective = objective_of(pipe)
    with torch.no_grad():
        losses = [objective(joined, batch_of(range(k, k + 8))).item() for k in (0, 8)]
    named = named_losses(objective.tally.take())
    assert len(named) == 2 * BINS
    assert sum(total for total, _ in named.values()) / 16 == pytest.approx(sum(losses), rel=1e-5)
    assert all(total == 0 for total, _ in named_losses(objective.tally.take()).values())


def test_a_loss_is_counted_where_its_branch_and_time_are():
    tally = Tally(CPU)
    losses = torch.tensor([[1.0, 2.0], [4.0, 8.0]])
    t = torch.tensor([[0.0, 0.3], [0.99, 1.0]])
    tally.add(losses, t, t > 0)
    counted = {name: part for name, part in named_losses(tally.take()).items() if part[1]}
    assert counted == {"image 0.25-0.5": (2.0, 1.0), "condition 0.75-1": (12.0, 2.0)}


def test_only_the_adapter_learns_and_the_frozen_model_keeps_nothing():
    pipe = pipeline()
    model = pipe.transformer
    before = {name: p.clone() for name, p in model.named_parameters()}
    told = (DEPTH.name, DEPTH.channels, DEPTH.binary)
    adapter = JointAdapter.of(model, *told)
    optimiser = torch.optim.AdamW(adapter.parameters(), 0.1)
    joined, objective = Joined(model, adapter), objective_of(pipe)
    for first in (0, 8, 16):  # at first zeros stand before most of it, then before the rest
        optimiser.zero_grad()
        objective(joined, batch_of(range(first, first + 8))).backward()
        optimiser.step()
    assert all(p.grad.abs().max() > 0 for p in adapter.parameters())
    assert all(p.grad is None for p in model.parameters())
    for name, p in model.named_parameters():
        assert torch.equal(p, before[name])

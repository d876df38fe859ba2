"""The adversarial losses by their formulas, and the penalty by its definition."""

import math

import pytest
import torch

from diffgen.nitro.heads import HeadShape
from diffgen.nitro.losses import critic_loss, r1_penalty, student_loss

REAL, FAKE = [-2.0, 0.5, 3.0], [-1.5, 0.25, 2.0]
KINDS = ["linear", "hinge", "softplus"]


def softplus(x: float) -> float:
    return math.log(1 + math.exp(x))


CRITIC = {
    "linear": lambda r, f: f - r,
    "hinge": lambda r, f: max(0, 1 - r) + max(0, 1 + f),
    "softplus": lambda r, f: softplus(-r) + softplus(f),
}
STUDENT = {"linear": lambda f: -f, "hinge": lambda f: -f, "softplus": lambda f: softplus(-f)}


@pytest.mark.parametrize("kind", KINDS)
def test_the_losses_are_the_means_of_their_formulas(kind):
    real, fake = torch.tensor(REAL), torch.tensor(FAKE)
    expected = sum(CRITIC[kind](r, f) for r, f in zip(REAL, FAKE, strict=True)) / 3
    assert critic_loss(kind, real, fake).item() == pytest.approx(expected, rel=1e-6)
    wanted = sum(STUDENT[kind](f) for f in FAKE) / 3
    assert student_loss(kind, fake).item() == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_heads_and_student_pull_the_fakes_logits_apart(kind):
    """Where the heads' loss has a slope at all: hinge has none beyond its margins."""
    real, fake = (torch.tensor([-0.5, 0.0, 0.5], requires_grad=True) for _ in range(2))
    of_real, of_fake = torch.autograd.grad(critic_loss(kind, real, fake), [real, fake])
    (of_student,) = torch.autograd.grad(student_loss(kind, fake), fake)
    assert (of_real < 0).all()
    assert (of_fake > 0).all()
    assert (of_student < 0).all()


def test_hinge_leaves_alone_what_is_beyond_its_margin_and_linear_does_not():
    real, fake = torch.tensor([1.5], requires_grad=True), torch.tensor([-1.5], requires_grad=True)
    for kind, slope in (("hinge", 0.0), ("linear", 1.0)):
        found = torch.autograd.grad(critic_loss(kind, real, fake), [real, fake])
        assert [abs(one.item()) for one in found] == [slope, slope]


def test_the_penalty_of_a_linear_head_is_the_square_of_its_weights():
    """Each of 6 places has the logit w . f, so the mean's slope is w / 6 at every place."""
    w = torch.tensor([1.0, -2.0, 3.0])
    features = torch.randn((2, 4, 2, 3, 3), generator=torch.Generator().manual_seed(0))
    features.requires_grad_()
    logits = (features @ w).flatten(2)
    assert r1_penalty(logits, features).item() == pytest.approx(14 / 6, rel=1e-6)


def test_the_penalty_is_that_of_finite_differences_and_trains_the_heads():
    shape = HeadShape(width=3, channels=4, convolutions=1)
    generator = torch.Generator().manual_seed(0)
    heads = {k: v.double().requires_grad_() for k, v in shape.fresh(2, generator).items()}
    features = torch.randn((2, 2, 2, 4, 3), generator=generator).double().requires_grad_()
    found = r1_penalty(shape(heads, features), features)
    squares = torch.zeros(2, 2, dtype=torch.float64)
    with torch.no_grad():
        for place in torch.cartesian_prod(*map(torch.arange, (2, 4, 3))).tolist():
            step = torch.zeros_like(features)
            step[(slice(None), slice(None), *place)] = 1e-5
            ends = [shape(heads, features + s * step).mean(dim=-1) for s in (1, -1)]
            squares += ((ends[0] - ends[1]) / 2e-5).square()
    assert found.item() == pytest.approx(squares.mean().item(), rel=1e-6)
    (slope,) = torch.autograd.grad(found, heads["reduce"])
    assert slope.any()

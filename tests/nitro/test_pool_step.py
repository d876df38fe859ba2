"""The pool's own Adam is torch's, head by head, however often each is trained."""

import pytest
import torch
from torch import nn

from diffgen.nitro.heads import HeadShape
from diffgen.nitro.pool import Pool

SHAPE = HeadShape(width=6, channels=4, convolutions=1)
TURNS = [[0, 2], [2], [3, 0, 2], [2, 1], [0], [3, 2, 0]]


@pytest.mark.parametrize("betas", [(0.5, 0.99), (0.0, 0.9), (0.9, 0.999)])
def test_a_step_is_torchs_adam_of_each_head_alone(betas):
    """In turns that train the heads 4, 1, 5 and 2 times, and one of them never."""
    pool = Pool(SHAPE, 5, seed=0, lr=0.02, betas=betas)
    begun = {name: pool.get_buffer(name).clone() for name in SHAPE.names}
    heads = [
        {name: nn.Parameter(begun[name][row].clone()) for name in SHAPE.names} for row in range(5)
    ]
    optimizers = [torch.optim.Adam(head.values(), lr=0.02, betas=betas) for head in heads]
    generator = torch.Generator().manual_seed(3)
    for turn in TURNS:
        gradients = {
            name: torch.randn((len(turn), *shape), generator=generator)
            for name, shape, _ in SHAPE.shapes()
        }
        pool.step(torch.tensor(turn), gradients)
        for place, row in enumerate(turn):
            for name, parameter in heads[row].items():
                parameter.grad = gradients[name][place].clone()
            optimizers[row].step()
        for row, head in enumerate(heads):
            for name, parameter in head.items():
                found = pool.get_buffer(name)[row]
                torch.testing.assert_close(found, parameter.detach(), rtol=1e-5, atol=1e-6)
    assert pool.steps.tolist() == [4, 1, 5, 2, 0]
    for name in SHAPE.names:
        assert torch.equal(pool.get_buffer(name)[4], begun[name][4])
        assert not torch.equal(pool.get_buffer(name)[0], begun[name][0])


def test_a_head_that_began_anew_takes_a_first_step_again():
    """Adam's first step is lr in the gradient's direction, whatever came before."""
    pool = Pool(SHAPE, 1, seed=0, lr=0.02, betas=(0.9, 0.999))
    gradient = {name: torch.full((1, *shape), 3.0) for name, shape, _ in SHAPE.shapes()}
    other = {name: -0.1 * value for name, value in gradient.items()}
    for _ in range(3):
        pool.step(torch.tensor([0]), gradient)
    pool.refresh(1.0, 0)
    before = pool.reduce.clone()
    pool.step(torch.tensor([0]), other)
    torch.testing.assert_close(pool.reduce, before + 0.02, rtol=0, atol=1e-6)


def test_taken_heads_are_copies_that_want_gradients():
    pool = Pool(SHAPE, 4, seed=0, lr=0.02, betas=(0.5, 0.99))
    before = pool.reduce.clone()
    heads = pool.take(torch.tensor([3, 1]))
    assert list(heads) == SHAPE.names
    assert all(values.requires_grad and values.is_leaf for values in heads.values())
    assert torch.equal(heads["reduce"], pool.reduce[[3, 1]])
    with torch.no_grad():
        heads["reduce"].zero_()
    assert torch.equal(pool.reduce, before)


def test_everything_of_a_pool_is_in_its_state():
    """What trains it on is what a checkpoint holds."""
    pool = Pool(SHAPE, 4, seed=0, lr=0.02, betas=(0.5, 0.99))
    names = {*SHAPE.names, *(f"{m}_{n}" for m in ("first", "second") for n in SHAPE.names)}
    assert set(pool.state_dict()) == names | {"ages", "steps"}

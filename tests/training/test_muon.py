"""Muon: the orthogonalisation, and a step against the algorithm written out."""

import copy

import pytest
import torch
from torch import Tensor, nn

from diffgen.training.muon import Muon, orthogonalise

SHAPES = [(16, 64), (64, 16), (24, 32), (1, 8), (128, 32), (3, 12, 48)]


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_singular_values_come_close_to_one_and_the_directions_stay(shape):
    matrix = draw(*shape)
    out = orthogonalise(matrix)
    assert out.shape == matrix.shape
    values = torch.linalg.svdvals(out)
    assert values.min() > 0.6
    assert values.max() < 1.3
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    core = left.mT @ out @ right.mT  # diagonal in the singular directions of the input
    off = core - torch.diag_embed(core.diagonal(dim1=-2, dim2=-1))
    assert off.abs().max() < 1e-3
    assert core.diagonal(dim1=-2, dim2=-1).min() > 0.6


def test_even_an_ill_conditioned_square_stays_bounded():
    values = torch.linalg.svdvals(orthogonalise(draw(32, 32)))
    assert values.max() < 1.3
    assert (values > 0.6).float().mean() > 0.9


def test_orthogonal_matrices_keep_their_directions():
    q = torch.linalg.qr(draw(20, 20)).Q
    out = orthogonalise(q)
    scale = out.flatten() @ q.flatten() / 20
    torch.testing.assert_close(out, scale * q, rtol=0, atol=1e-4)


@pytest.mark.parametrize("factor", [1e-4, 3.0, 1e6])
def test_the_size_of_the_gradient_does_not_matter_but_its_sign_does(factor):
    matrix = draw(12, 20)
    out = orthogonalise(matrix)
    torch.testing.assert_close(orthogonalise(factor * matrix), out, rtol=0, atol=1e-4)
    torch.testing.assert_close(orthogonalise(-matrix), -out, rtol=0, atol=1e-6)


def test_transposing_commutes_and_batching_changes_nothing():
    matrices = draw(4, 10, 30)
    out = orthogonalise(matrices)
    torch.testing.assert_close(orthogonalise(matrices.mT), out.mT, rtol=0, atol=1e-5)
    for matrix, expected in zip(matrices, out, strict=True):
        torch.testing.assert_close(orthogonalise(matrix), expected, rtol=0, atol=1e-5)


def test_a_zero_gradient_moves_nothing():
    assert not orthogonalise(torch.zeros(4, 6)).any()


def test_fp64_comes_back_as_fp64():
    assert orthogonalise(draw(4, 6).double()).dtype == torch.float64


def textbook_newton_schulz(g: Tensor) -> Tensor:
    """Keller Jordan's zeropower_via_newtonschulz5 for one matrix, in fp32."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = g / (g.norm() + 1e-7)
    if g.shape[0] > g.shape[1]:
        x = x.T
    for _ in range(5):
        s = x @ x.T
        x = a * x + b * s @ x + c * s @ s @ x
    return x.T if g.shape[0] > g.shape[1] else x


def test_steps_are_the_textbooks_matrix_by_matrix():
    """Three steps over mixed shapes; one parameter has no gradient in the second."""
    lr, momentum, decay = 0.05, 0.9, 0.1
    shapes = [(6, 10), (6, 10), (10, 6), (20, 5), (6, 10)]
    params = [nn.Parameter(draw(*shape, seed=k)) for k, shape in enumerate(shapes)]
    mine = [p.detach().clone() for p in params]
    moments = [torch.zeros_like(p) for p in mine]
    optimizer = Muon(params, lr=lr, momentum=momentum, weight_decay=decay)
    for step in range(3):
        for k, p in enumerate(params):
            absent = step == 1 and k == 4
            p.grad = None if absent else draw(*p.shape, seed=100 * step + k)
            if absent:
                continue
            moments[k] = momentum * moments[k] + (1 - momentum) * p.grad
            nesterov = (1 - momentum) * p.grad + momentum * moments[k]
            update = textbook_newton_schulz(nesterov)
            rows, columns = p.shape
            scale = max(1, rows / columns) ** 0.5
            mine[k] = mine[k] * (1 - lr * decay) - lr * scale * update
        kept = [p.grad.clone() for p in params if p.grad is not None]
        optimizer.step()
        for grad, p in zip(kept, (p for p in params if p.grad is not None), strict=True):
            assert torch.equal(p.grad, grad)  # the gradients are left alone
        for p, expected in zip(params, mine, strict=True):
            torch.testing.assert_close(p.detach(), expected, rtol=0, atol=1e-5)


def test_only_matrices_are_taken():
    for shape in ((4,), (2, 3, 4), ()):
        with pytest.raises(ValueError, match="matrices"):
            Muon([nn.Parameter(torch.zeros(shape))])


def test_a_closure_is_evaluated_with_gradients():
    p = nn.Parameter(draw(3, 5))

    def closure():
        loss = p.square().sum()
        loss.backward()
        return loss

    before = p.detach().square().sum()
    assert torch.equal(Muon([p], lr=0.01).step(closure), before)
    assert p.detach().square().sum() < before


def test_its_state_travels():
    """A copy that loads the state takes the same next step, bit for bit."""
    params = [nn.Parameter(draw(4, 6)), nn.Parameter(draw(4, 6, seed=1))]
    optimizer = Muon(params)
    for step in range(2):
        for k, p in enumerate(params):
            p.grad = draw(4, 6, seed=10 + 2 * step + k)
        if step == 1:
            copies = [nn.Parameter(p.detach().clone()) for p in params]
            for p, twin in zip(params, copies, strict=True):
                twin.grad = p.grad.clone()
            resumed = Muon(copies, lr=0.5)
            resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
            resumed.step()
        optimizer.step()
    for p, twin in zip(params, copies, strict=True):
        assert torch.equal(p, twin)


@pytest.mark.parametrize("shape", [(16, 48), (3, 8, 64), (96, 16)])
def test_wide_matrices_take_a_shorter_way_to_the_same_place(shape):
    """Iterating the Gram matrix alone is the published iteration, in fp32 to 1e-4."""
    from diffgen.training import muon

    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    flat = x.mT if shape[-2] > shape[-1] else x
    unit = (flat / flat.norm(dim=(-2, -1), keepdim=True)).double()
    published = muon._iterate(unit)
    assert not torch.equal(muon._iterate_gram(unit.float()), muon._iterate(unit.float()))
    found = orthogonalise(x)
    found = found.mT if shape[-2] > shape[-1] else found
    torch.testing.assert_close(found.double(), published, rtol=0, atol=1e-4)

"""Gradient checkpointing: less memory, the same bits."""

import pytest
import torch

from diffgen.models.taps import frozen, tapped
from tests.tiny import build

X = torch.randn(2, 3, 8, 12, generator=torch.Generator().manual_seed(0))
T, Y = torch.tensor([300.0, 800.0]), torch.tensor([0, 2])


def model_of(checkpointing: bool, **options):
    model = build(depth=3, **options).transformer
    if checkpointing:
        model.enable_gradient_checkpointing()
    return model


def counted(model) -> list[int]:
    """How often each block has run."""
    runs = [0] * len(model.blocks)

    def count(number: int) -> None:
        runs[number] += 1

    for k, block in enumerate(model.blocks):
        block.attn.register_forward_hook(lambda *_, k=k: count(k))
    return runs


@pytest.mark.parametrize("options", [{}, {"adaln_rank": 4, "position": {"kind": "sincos"}}])
def test_output_and_every_gradient_are_bit_equal(options):
    results = []
    for checkpointing in (False, True):
        model, x = model_of(checkpointing, **options), X.clone().requires_grad_()
        out = model(x, T, Y)
        out.square().sum().backward()
        results.append([out.detach(), x.grad, *(p.grad for p in model.parameters())])
    for one, other in zip(*results, strict=True):
        assert one.any()
        assert torch.equal(one, other)


def test_packed_batches_too():
    tokens, coords = torch.randn(3 + 5, 12), torch.rand(3 + 5, 2).mul(4).floor()
    results = []
    for checkpointing in (False, True):
        x = tokens.clone().requires_grad_()
        out = model_of(checkpointing)(x, T, Y, coords, lengths=torch.tensor([3, 5]))
        results.append(torch.autograd.grad(out.square().sum(), x)[0])
    assert results[0].any()
    assert torch.equal(*results)


def test_blocks_run_again_only_where_gradients_are_wanted():
    model = model_of(True)
    runs = counted(model)
    out = model(X.clone().requires_grad_(), T, Y)
    assert runs == [1, 1, 1]
    out.sum().backward()
    assert runs == [2, 2, 2]
    with torch.no_grad():
        model(X, T, Y)
    assert runs == [3, 3, 3]


@pytest.mark.parametrize("times", [1, 2])
def test_gradients_of_tapped_features_are_bit_equal(times):
    """Also of several losses of one forward pass, with the weights frozen."""
    results = []
    for checkpointing in (False, True):
        model, x = model_of(checkpointing), X.clone().requires_grad_()
        with frozen(model):
            with tapped(model, [0, 2]) as taps:
                model(x, T, Y)
            losses = [taps.features[2].square().sum(), taps.features[0].sin().sum()][:times]
            last = len(losses) - 1
            results.append(
                [
                    torch.autograd.grad(loss, x, retain_graph=k < last)[0]
                    for k, loss in enumerate(losses)
                ]
            )
    for one, other in zip(*results, strict=True):
        assert one.any()
        assert torch.equal(one, other)


def test_less_is_kept_for_the_way_back():
    """Bytes that autograd saves in a forward pass."""
    kept = []
    for checkpointing in (False, True):
        model, sizes = model_of(checkpointing), []
        with (
            frozen(model),
            torch.autograd.graph.saved_tensors_hooks(
                lambda z, sizes=sizes: (sizes.append(z.numel()), z)[1], lambda z: z
            ),
        ):
            model(X.clone().requires_grad_(), T, Y)
        kept.append(sum(sizes))
    assert kept[1] < kept[0] / 4


def test_it_can_be_switched_off_again():
    model = model_of(True)
    model.disable_gradient_checkpointing()
    runs = counted(model)
    model(X.clone().requires_grad_(), T, Y).sum().backward()
    assert runs == [1, 1, 1]

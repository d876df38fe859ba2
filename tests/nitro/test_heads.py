"""Stacked heads are what torch's own layers compute, one head after the other."""

import pytest
import torch
from torch import nn

from diffgen.nitro.heads import HeadShape, _normed

SHAPE = HeadShape(width=12, channels=16, convolutions=2)


class Channels(nn.Module):
    """(B, C, h, w) <-> (B, h, w, C)."""

    def __init__(self, *order: int) -> None:
        super().__init__()
        self.order = order

    def forward(self, x):
        return x.permute(*self.order)


def moved(shape: HeadShape, count: int, seed: int = 0):
    """Heads whose every number, gains and shifts too, is off its beginning; fp64."""
    generator = torch.Generator().manual_seed(seed)
    fresh = shape.fresh(count, generator)
    return {
        name: (v + 0.3 * torch.randn(v.shape, generator=generator)).double().requires_grad_()
        for name, v in fresh.items()
    }


def layers(shape: HeadShape, heads, number: int) -> nn.Sequential:
    """Head ``number`` as torch's own layers."""
    c = shape.channels
    reduce, out = nn.Linear(shape.width, c, bias=False), nn.Linear(c, 1)
    built: list[nn.Module] = [reduce, nn.SiLU(), Channels(0, 3, 1, 2)]
    with torch.no_grad():
        reduce.weight = nn.Parameter(heads["reduce"][number].T.clone())
        for k in range(shape.convolutions):
            convolution = nn.Conv2d(c, c, 4, stride=2, padding=1, bias=False)
            weight = heads[f"conv{k}"][number].T.reshape(c, c, 4, 4)
            convolution.weight = nn.Parameter(weight.clone())
            norm = nn.GroupNorm(shape.groups, c, eps=1e-5)
            norm.weight = nn.Parameter(1 + heads[f"gain{k}"][number])
            norm.bias = nn.Parameter(heads[f"shift{k}"][number].clone())
            built += [convolution, norm, nn.SiLU()]
        out.weight = nn.Parameter(heads["out"][number][None].clone())
        out.bias = nn.Parameter(heads["bias"][number][None].clone())
    return nn.Sequential(*built, Channels(0, 2, 3, 1), out)


def stacked_gradients(shape: HeadShape, model: nn.Sequential) -> dict[str, torch.Tensor]:
    """Of torch's layers, as the stacked parameters hold them."""
    found = {"reduce": model[0].weight.grad.T}
    for k in range(shape.convolutions):
        found[f"conv{k}"] = model[3 + 3 * k].weight.grad.flatten(1).T
        found[f"gain{k}"] = model[4 + 3 * k].weight.grad
        found[f"shift{k}"] = model[4 + 3 * k].bias.grad
    found["out"], found["bias"] = model[-1].weight.grad[0], model[-1].bias.grad[0]
    return found


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        (SHAPE, (8, 8)),
        (SHAPE, (7, 5)),
        (SHAPE, (4, 11)),
        (HeadShape(12, 16, 1), (2, 3)),
        (HeadShape(12, 16, 0), (1, 1)),
        (HeadShape(12, 6, 2), (9, 6)),
    ],
    ids=str,
)
def test_stacked_heads_are_torchs_layers_in_a_loop_forwards_and_backwards(shape, size):
    count, batch = 3, 2
    heads = moved(shape, count)
    generator = torch.Generator().manual_seed(1)
    features = torch.randn((count, batch, *size, 12), generator=generator).double()
    features.requires_grad_()
    logits = shape(heads, features)
    weights = torch.randn(logits.shape, generator=generator).double()
    (logits * weights).sum().backward()
    halved = 2**shape.convolutions
    assert logits.shape == (count, batch, (size[0] // halved) * (size[1] // halved))
    for number in range(count):
        model, own = layers(shape, heads, number), features[number].detach().requires_grad_()
        expected = model(own).flatten(1)
        torch.testing.assert_close(logits[number], expected, rtol=0, atol=1e-10)
        (expected * weights[number]).sum().backward()
        torch.testing.assert_close(features.grad[number], own.grad, rtol=0, atol=1e-10)
        for name, gradient in stacked_gradients(shape, model).items():
            torch.testing.assert_close(heads[name].grad[number], gradient, rtol=0, atol=1e-9)
        assert heads["conv0"].grad[number].any() if shape.convolutions else True


@pytest.mark.parametrize(("channels", "groups"), [(16, 4), (6, 1), (4, 1), (12, 3), (32, 8)])
def test_the_groups_divide_the_channels(channels, groups):
    assert HeadShape(8, channels, 1).groups == groups


def test_fresh_heads_have_weights_of_one_over_the_root_of_what_they_sum():
    fresh = SHAPE.fresh(200, torch.Generator().manual_seed(0))
    assert list(fresh) == SHAPE.names
    for name, fan_in in (("reduce", 12), ("conv0", 256), ("conv1", 256), ("out", 16)):
        assert fresh[name].std().item() == pytest.approx(fan_in**-0.5, rel=0.05), name
    for name in ("gain0", "shift0", "gain1", "shift1", "bias"):
        assert not fresh[name].any(), name
    assert fresh["reduce"].shape == (200, 12, 16)
    assert fresh["bias"].shape == (200,)


def test_a_head_sees_its_own_features_alone():
    heads = moved(SHAPE, 2)
    features = torch.randn((2, 2, 4, 4, 12), generator=torch.Generator().manual_seed(2)).double()
    before = SHAPE(heads, features)
    other = features.clone()
    other[1, 0] += 1
    after = SHAPE(heads, other)
    changed = (after != before).any(dim=2)
    assert changed.tolist() == [[False, False], [True, False]]


def test_heads_that_share_features_have_the_logits_and_slopes_of_heads_with_copies_of_them():
    """Two maps for six heads: three on the first, three on the other."""
    heads = moved(SHAPE, 6)
    features = torch.randn((2, 3, 5, 4, 12), generator=torch.Generator().manual_seed(3)).double()
    features.requires_grad_()
    shared, copied = SHAPE(heads, features), SHAPE(heads, features.repeat_interleave(3, dim=0))
    assert shared.shape == copied.shape == (6, 3, 1)
    torch.testing.assert_close(shared, copied, rtol=0, atol=1e-12)
    inputs = [features, *heads.values()]
    weights = torch.randn(shared.shape, generator=torch.Generator().manual_seed(4)).double()
    mine, theirs = (torch.autograd.grad((one * weights).sum(), inputs) for one in (shared, copied))
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10)


def test_the_norm_of_bf16_numbers_counts_in_fp32():
    """Of a mean of 100, which bf16 knows to a half only."""
    generator = torch.Generator().manual_seed(5)
    x = (100 + torch.randn((2, 3, 4, 4, 16), generator=generator)).bfloat16()
    gain, shift = torch.randn((2, 2, 16), generator=generator)
    torch.testing.assert_close(
        _normed(x, gain, shift, 4), _normed(x.float(), gain, shift, 4), rtol=0, atol=0
    )


def test_heads_under_autocast_are_nearly_those_of_fp32():
    heads = {name: values.detach().float() for name, values in moved(SHAPE, 2).items()}
    features = torch.randn((2, 4, 8, 8, 12), generator=torch.Generator().manual_seed(6))
    expected = SHAPE(heads, features)
    with torch.autocast("cpu", torch.bfloat16):
        found = SHAPE(heads, features)
    assert found.dtype == torch.float32
    assert (found - expected).abs().max() < 0.05 * expected.std()

"""Joint attention against plain cross-attention with the LoRAs merged into a copy's weights."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from diffgen.joint.attention import AttentionLoRA, JointAttention, Rows, look
from diffgen.joint.low_rank import LowRank
from diffgen.models.attention import Padded
from diffgen.models.blocks import Attention

WIDTH, HEADS, PAIRS, TOKENS = 24, 3, 2, 5
PROJECTIONS = [("shared", None), ("shared", 2), ("fused", None), ("fused", 2)]


def drawn(module):
    """``module`` with every weight from N(0, 0.3^2)."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return module


def branch(seed: int, attention: Attention, turned: bool = False) -> Rows:
    """Random tokens as a block's attention has them."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(PAIRS, TOKENS, WIDTH, generator=generator)
    qkv = attention.qkv(x)
    if not turned:
        return Rows(x, qkv, None, None)
    angles = torch.randn(PAIRS, TOKENS, WIDTH // HEADS // 2, generator=generator)
    scale = 0.5 + torch.rand(PAIRS, 1, generator=generator)
    return Rows(x, qkv, (angles.cos(), angles.sin()), scale)


def merged(attention: Attention, lora: AttentionLoRA) -> Attention:
    """A copy with the LoRA in its weights."""
    copied = copy.deepcopy(attention)
    product = {name: one.up.weight @ one.down.weight for name, one in lora.named_children()}
    with torch.no_grad():
        copied.qkv.weight += torch.cat([product[name] for name in "qkv"])
        copied.proj.weight += product["out"]
    return copied


def turn(x: Tensor, rotation) -> Tensor:
    """Channel pairs (2j, 2j + 1) of ``x`` (B, heads, N, D) by the angles of (B, N, D / 2)."""
    cos, sin = (part[:, None] for part in rotation)
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1).flatten(-2)


def crossed(attention: Attention, asking: Rows, other: Rows) -> Tensor:
    """Plain cross-attention: queries of ``asking``, keys and values of ``other``."""
    q = attention.qkv(asking.x).chunk(3, dim=-1)[0]
    _, k, v = attention.qkv(other.x).chunk(3, dim=-1)
    q, k, v = (z.unflatten(-1, (HEADS, -1)).transpose(1, 2) for z in (q, k, v))
    if attention.qk_norm:
        q, k = (F.layer_norm(z, z.shape[-1:], eps=1e-6) for z in (q, k))
    if asking.rotation is not None:
        q, k = turn(q, asking.rotation), turn(k, asking.rotation)
    if asking.logit_scale is not None:
        q = q * asking.logit_scale[:, :, None, None]
    found = F.scaled_dot_product_attention(q, k, v)
    return attention.proj(found.transpose(1, 2).flatten(-2))


def made(projection: str = "shared", rank: int | None = None) -> JointAttention:
    return drawn(JointAttention(WIDTH, 2, projection, rank))


@torch.no_grad()
@pytest.mark.parametrize("qk_norm", [False, True])
@pytest.mark.parametrize("turned", [False, True])
def test_a_branch_finds_in_the_other_what_cross_attention_with_merged_weights_finds(
    qk_norm, turned
):
    attention = drawn(Attention(WIDTH, HEADS, qk_norm))
    image, condition = branch(2, attention, turned), branch(3, attention, turned)
    lora = drawn(AttentionLoRA(WIDTH, 2))
    found = look(attention, lora, image, condition, Padded())
    expected = crossed(merged(attention, lora), image, condition)
    assert expected.std() > 0.1
    assert not torch.allclose(expected, crossed(attention, image, condition), atol=0.1)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize(("projection", "rank"), PROJECTIONS)
def test_both_directions_have_their_own_lora_and_come_out_of_the_projection(projection, rank):
    attention, joint = drawn(Attention(WIDTH, HEADS, True)), made(projection, rank)
    image, condition = branch(2, attention, True), branch(3, attention, True)
    found = [
        crossed(merged(attention, joint.to_image), image, condition),
        crossed(merged(attention, joint.to_condition), condition, image),
    ]
    weight = joint.project.weight if rank is None else joint.project.up.weight
    if rank is not None:
        weight = weight @ joint.project.down.weight
    if projection == "fused":
        expected = (torch.cat(found, dim=-1) @ weight.T).chunk(2, dim=-1)
    else:
        expected = [one @ weight.T for one in found]
    for one, other in zip(joint(attention, image, condition, Padded()), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize(("projection", "rank"), PROJECTIONS)
def test_it_starts_at_zero(projection, rank):
    attention, joint = (
        drawn(Attention(WIDTH, HEADS, True)),
        JointAttention(WIDTH, 2, projection, rank),
    )
    for one in joint(attention, branch(2, attention), branch(3, attention), Padded()):
        assert torch.equal(one, torch.zeros(PAIRS, TOKENS, WIDTH))


def exchanged(joint: JointAttention) -> JointAttention:
    """A copy that treats images as conditions and conditions as images."""
    other = copy.deepcopy(joint)
    other.to_image, other.to_condition = other.to_condition, other.to_image
    if not joint.fused:
        return other
    low = isinstance(joint.project, LowRank)
    into, out = (other.project.down, other.project.up) if low else (other.project, other.project)
    with torch.no_grad():
        into.weight.copy_(into.weight.roll(WIDTH, dims=1))
        out.weight.copy_(out.weight.roll(WIDTH, dims=0))
    return other


@torch.no_grad()
@pytest.mark.parametrize(("projection", "rank"), PROJECTIONS)
def test_exchanged_branches_and_directions_give_exchanged_results(projection, rank):
    attention, joint = drawn(Attention(WIDTH, HEADS, True)), made(projection, rank)
    image, condition = branch(2, attention, True), branch(3, attention, True)
    one = joint(attention, image, condition, Padded())
    other = exchanged(joint)(attention, condition, image, Padded())
    assert not torch.allclose(one[0], one[1], atol=0.1)
    for a, b in zip(one, reversed(other), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    unlike = joint(attention, condition, image, Padded())
    assert not torch.allclose(one[0], unlike[1], atol=0.1)


@torch.no_grad()
def test_a_fused_projection_also_tells_a_branch_what_the_other_found():
    """With nothing on the diagonal, an image gets what its condition found in it."""
    attention, joint = drawn(Attention(WIDTH, HEADS, False)), made("fused")
    joint.project.weight[:WIDTH, :WIDTH] = 0
    image, condition = branch(2, attention), branch(3, attention)
    found = crossed(merged(attention, joint.to_condition), condition, image)
    for_image, _ = joint(attention, image, condition, Padded())
    expected = found @ joint.project.weight[:WIDTH, WIDTH:].T
    torch.testing.assert_close(for_image, expected, rtol=1e-4, atol=1e-5)

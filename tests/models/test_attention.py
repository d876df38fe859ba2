"""Padded and packed attention, the choice of a backend, and its refusals."""

import logging

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diffgen.config.model import attention_problems
from diffgen.models.attention import Packed, Padded, attend, chosen_backend
from diffgen.models.dit import DiT
from diffgen.models.tokens import grid_coords

CUDA = torch.cuda.is_available()


def qkv(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(*shape, generator=generator) for _ in range(3)]


@settings(deadline=None, max_examples=20)
@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=5))
def test_packed_is_padded_is_one_by_one(lengths):
    longest = max(lengths)
    mask = torch.arange(longest) < torch.tensor(lengths)[:, None]
    padded = qkv(len(lengths), longest, 2, 8)
    packed = [z[mask] for z in padded]
    by_mask = attend(*padded, Padded(mask))[mask]
    by_length = attend(*packed, Packed(torch.tensor(lengths)))
    alone = [
        attend(*[z[i : i + 1, :n] for z in padded], Padded())[0] for i, n in enumerate(lengths)
    ]
    torch.testing.assert_close(by_mask, torch.cat(alone), rtol=0, atol=1e-6)
    torch.testing.assert_close(by_length, torch.cat(alone), rtol=0, atol=1e-6)


@torch.no_grad()
@settings(deadline=None, max_examples=10)
@given(filler=st.floats(-100, 100), where=st.integers(0, 50))
def test_padding_never_reaches_a_real_token(filler, where):
    torch.manual_seed(0)
    model = DiT(hidden_size=32, depth=2, num_heads=2, patch_size=2, qk_norm=True, adaln_rank=8)
    for p in model.parameters():
        p.copy_(0.2 * torch.randn(p.shape))
    tokens, coords = torch.randn(2, 12, 12), grid_coords(3, 4).repeat(2, 1, 1)
    mask = torch.arange(12) < torch.tensor([[7], [12]])
    t, y = torch.tensor([100.0, 900.0]), torch.tensor([0, 8])
    expected = model.forward_tokens(tokens, coords, t, y, mask=mask)
    tokens[0, 7:], coords[0, 7:] = filler, where
    found = model.forward_tokens(tokens, coords, t, y, mask=mask)
    assert torch.equal(found, expected)
    assert (found[0, 7:] == 0).all()


def test_auto_takes_flash_only_for_packed_halves_on_a_gpu(caplog):
    chosen_backend.cache_clear()
    with caplog.at_level(logging.INFO, logger="diffgen.models.attention"):
        assert chosen_backend("auto", True, True, True) == "varlen"
        for packed, cuda, half in ((False, True, True), (True, False, True), (True, True, False)):
            assert chosen_backend("auto", packed, cuda, half) == "sdpa"
    assert "attention: varlen for packed sequences" in caplog.text


@pytest.mark.parametrize("backend", ["varlen", "xformers"])
def test_a_backend_that_cannot_run_is_refused(backend):
    with pytest.raises(ValueError, match=f"attention: {backend} needs a GPU"):
        attend(*qkv(1, 4, 2, 8), Padded(backend=backend))
    model = DiT(hidden_size=32, depth=1, num_heads=2)
    model.attention = backend
    with pytest.raises(ValueError, match="needs a GPU"):
        model(torch.zeros(1, 3, 8, 8), torch.ones(1), torch.zeros(1, dtype=torch.long))


def test_varlen_in_fp32_is_refused():
    (problem,) = attention_problems("varlen", cuda=True, half=False)
    assert "bf16" in problem


@pytest.mark.skipif(not CUDA, reason="needs a GPU")
@pytest.mark.parametrize("backend", ["varlen", "xformers"])
def test_backends_agree_within_bf16_rounding(backend):
    if list(attention_problems(backend, True, True)):
        pytest.skip("xformers is not installed")
    lengths = torch.tensor([5, 17, 64, 1]).cuda()
    mask = torch.arange(64).cuda() < lengths[:, None]
    padded = [z.cuda().bfloat16() for z in qkv(4, 64, 4, 64)]
    packed = [z[mask] for z in padded]
    for layout, inputs in (
        (Packed(lengths, backend), packed),
        (Padded(mask, backend), padded),
        (Padded(None, backend), padded),
    ):
        plain = Packed(lengths) if isinstance(layout, Packed) else Padded(layout.mask)
        expected = attend(*[z.float() for z in inputs], plain)
        found = attend(*inputs, layout).float()
        if isinstance(layout, Padded) and layout.mask is not None:
            expected, found = expected[mask], found[mask]
        torch.testing.assert_close(found, expected, rtol=0.02, atol=0.02)

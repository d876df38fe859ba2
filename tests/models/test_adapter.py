"""What may work beside a model: that it is asked, for what, and in which blocks."""

import pytest
import torch

from diffgen.config.process import FlowConfig
from diffgen.models.tokens import pack, patchify, unpatchify
from diffgen.processes import build_process
from diffgen.sampling.guided import Denoiser
from tests.adapters import RANDOM, rows
from tests.tiny import build

MODELS = [
    {"position": {"kind": "rope"}},
    {"position": RANDOM},
    {"adaln_rank": 4, "position": {"kind": "rope", "scaling": "yarn"}},
]


class Idle:
    """Leaves all to the model, and notes the numbers of the blocks."""

    def __init__(self):
        self.blocks = []

    def condition(self, condition):
        return condition

    def attend(self, number, attention, *given):
        self.blocks.append(number)
        return attention(*given)


class Silent(Idle):
    """Takes the attention away."""

    def attend(self, number, attention, x, *given):
        return torch.zeros_like(x)


class Shifted(Idle):
    """Adds to what modulates the blocks."""

    def condition(self, condition):
        return condition + 0.3


def told(model):
    generators = [torch.Generator().manual_seed(k) for k in range(3)]
    return {"generator": generators} if model.encoding.draws_always else {}


@torch.no_grad()
@pytest.mark.parametrize("options", MODELS)
def test_one_that_leaves_all_to_the_model_changes_no_bit(options):
    model, idle = build(depth=3, **options).transformer, Idle()
    given = rows(model, 3, 8, 12)
    out = model(*given, adapter=idle, **told(model))
    assert torch.equal(out, model(*given, **told(model)))
    assert idle.blocks == [0, 1, 2]


@torch.no_grad()
@pytest.mark.parametrize("kind", [Silent, Shifted])
def test_it_is_asked_for_tokens_too_padded_or_packed(kind):
    model = build(position={"kind": "rope"}).transformer
    x, t, y = rows(model, 3, 8, 12)
    batch = pack(list(x), 2)
    for layout in ({}, {"lengths": batch.lengths}):
        tokens, coords = patchify(x, 2), batch.coords.unflatten(0, (3, -1))
        if layout:
            tokens, coords = batch.tokens, batch.coords
        out = model(tokens, t, y, coords, adapter=kind(), **layout)
        image = unpatchify(out.reshape(3, 24, -1), 4, 6, 2)
        expected = model(x, t, y, adapter=kind())
        torch.testing.assert_close(image, expected)
        assert not torch.allclose(image, model(x, t, y), atol=1e-2)


@torch.no_grad()
@pytest.mark.parametrize("options", MODELS)
def test_attention_is_what_it_says(options):
    """Nothing of it is left where the adapter gives zeros: the projections do not matter."""
    model = build(**options).transformer
    given = rows(model, 3)
    silent = model(*given, adapter=Silent(), **told(model))
    for block in model.blocks:
        block.attn.qkv.weight.zero_()
        block.attn.proj.weight.zero_()
        block.attn.proj.bias.zero_()
    torch.testing.assert_close(silent, model(*given, **told(model)))


@torch.no_grad()
@pytest.mark.parametrize("options", MODELS)
def test_what_modulates_the_blocks_is_what_it_says(options):
    """All of them, their global branch and the last layer: as if the time's embedding said so."""
    model = build(**options).transformer
    given = rows(model, 3)
    shifted = model(*given, adapter=Shifted(), **told(model))
    assert not torch.allclose(shifted, model(*given, **told(model)), atol=1e-2)
    model.t_embedder.mlp[2].bias += 0.3
    torch.testing.assert_close(shifted, model(*given, **told(model)))


@torch.no_grad()
@pytest.mark.parametrize("options", MODELS)
def test_a_denoiser_hands_it_to_its_model(options):
    model = build(**options).transformer
    process = build_process(FlowConfig(), model.convention, model.config.prediction)
    seeds = [0, 1, 2] if model.encoding.draws_always else None
    x, _, y = rows(model, 3)
    idle, denoiser = Idle(), Denoiser(model, process, seeds)
    assert torch.equal(
        denoiser._replace(adapter=idle)(x, 0.5, y, None).x0, denoiser(x, 0.5, y, None).x0
    )
    assert idle.blocks == [0, 1]
    moved = denoiser._replace(adapter=Silent())(x, 0.5, y, None).x0
    assert not torch.allclose(moved, denoiser(x, 0.5, y, None).x0, atol=1e-2)


@torch.no_grad()
def test_every_image_of_a_batch_may_have_a_time_of_its_own():
    """Also earlier ones; and two passes of a batch draw alike."""
    model = build(position=RANDOM).transformer
    process = build_process(FlowConfig(), model.convention, model.config.prediction)
    denoiser = Denoiser(model, process, [5, 6])
    x, _, y = rows(model, 2)
    together = denoiser(
        torch.cat([x, x]), torch.tensor([0.2, 0.8, 0.8, 0.2]), torch.cat([y, y]), None
    ).x0
    for k, t in enumerate((0.2, 0.8, 0.8, 0.2)):
        alone = denoiser(x, t, y, None).x0[k % 2]
        torch.testing.assert_close(together[k], alone, rtol=1e-4, atol=1e-5)

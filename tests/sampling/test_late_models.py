"""Late constraints on any model: encodings, sizes, conventions, converted folders."""

import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, DiTPipeline, DiTTransformer2DModel

from diffgen import DiffGenPipeline
from diffgen.guidance import Constraint
from diffgen.lacon.conditions import MASK
from tests.aligners import wish
from tests.late import RANDOM, X_T, late
from tests.tiny import build, draw

# diffusers hands a tensor to numpy the old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.mark.parametrize(
    "position",
    [RANDOM, {"kind": "rope"}, {"kind": "sincos"}],
    ids=lambda position: position["kind"],
)
@pytest.mark.parametrize(("height", "width"), [(12, 20), (20, 12), (4, 8)])
def test_any_encoding_at_any_size(position, height, width):
    pipe = build(position=position)
    options = {"height": height, "width": width, "num_inference_steps": 2}
    constraint = Constraint(wish(pipe, MASK, size=(height, width)), 0.3)
    found = draw(pipe, constraints=[constraint], **options)
    assert found.shape == (3, 3, height, width)
    assert torch.equal(draw(pipe, constraints=[constraint], **options), found)
    assert not torch.allclose(found, draw(pipe, **options), atol=1e-2)


def test_positions_are_drawn_alike_for_the_gradient_and_for_guidance():
    pipe = build(position=RANDOM)
    nowhere = wish(pipe, MASK, weight=torch.zeros(1, 1, 8, 8))
    found = draw(pipe, constraints=[Constraint(nowhere, 1.0)])
    torch.testing.assert_close(found, draw(pipe), rtol=0, atol=1e-4)


def test_a_model_without_classes():
    pipe = build(num_classes=0)
    options = {"labels": None, "num_images": 2}
    constraint = Constraint(wish(pipe, MASK, count=2), 0.3)
    found = draw(pipe, constraints=[constraint], **options)
    assert not torch.allclose(found, draw(pipe, **options), atol=1e-2)


def test_a_folder_of_diffusers_dit(tmp_path, make_vae):
    model = DiTTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=4,
        out_channels=8,
        num_layers=3,
        sample_size=8,
    )
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(0.15 * torch.randn(p.shape, generator=generator))
        first = model.transformer_blocks[0].norm1.emb.state_dict()
        for block in model.transformer_blocks:
            block.norm1.emb.load_state_dict(first)
    vae = AutoencoderKL.from_pretrained(make_vae())
    DiTPipeline(model, vae, DDIMScheduler()).save_pretrained(tmp_path / "dit")
    pipe = DiffGenPipeline.from_pretrained(tmp_path / "dit")
    pipe.set_progress_bar_config(disable=True)
    side = pipe.geometry.seen[0]
    options = {"labels": (3, 417), "height": 4 * side, "width": 2 * side}
    size = (2 * side, side)
    constraint = Constraint(wish(pipe, MASK, count=2, size=size, image_std=1.0), 0.5)
    found = draw(pipe, constraints=[constraint], **options)
    assert found.shape == (2, 4, *size)
    assert found.isfinite().all()
    assert not torch.allclose(found, draw(pipe, **options), atol=1e-2)


@torch.no_grad()
def test_until_counts_in_diffgens_time_whatever_the_models():
    pipe = build(time={"direction": "data", "scale": 1})
    base, constrained = late(pipe, Constraint(wish(pipe, MASK), 0.3, until=0.5))
    assert not torch.equal(base(X_T, 0.9, True).x0, constrained(X_T, 0.9, True).x0)
    assert torch.equal(base(X_T, 0.1, True).x0, constrained(X_T, 0.1, True).x0)

"""The teacher's features: where they are tapped, and that a crop's are those of the whole."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from diffgen.config.process import DDPMConfig
from diffgen.models.taps import tapped
from diffgen.nitro.features import Backbone, Box, Place, crop_side, spread_taps
from tests.nitro.made import process_of, teacher

X = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
T, Y, SEEDS = torch.tensor([0.25, 0.5]), torch.tensor([0, 2]), [3, 4]
BOX = Box(top=3, left=1, rows=4, columns=5)
DRAWN = {"kind": "rpe2d", "inference": "random"}
ENCODINGS: list[dict[str, Any]] = [
    {"kind": "sincos"},
    {"kind": "rope"},
    {"kind": "rpe2d"},
    DRAWN,
    {**DRAWN, "base": "sincos"},
    {"kind": "none"},
]


def seeds_for(model) -> list[int] | None:
    return SEEDS if model.encoding.draws_always else None


def backbone_of(model, places=None) -> Backbone:
    return Backbone(model, process_of(model), places or spread_taps(len(model.blocks)))


def inside(tokens: torch.Tensor, box: Box = BOX) -> torch.Tensor:
    """(B, 64, ...) -> those of the box, (B, rows columns, ...)."""
    grid = tokens.unflatten(1, (8, 8))
    cut = grid[:, box.top : box.top + box.rows, box.left : box.left + box.columns]
    return cut.flatten(1, 2)


class TestTaps:
    @pytest.mark.parametrize("depth", [1, 2, 3, 5, 6, 12, 28])
    def test_there_are_at_most_ten_spread_evenly_with_the_last_among_them(self, depth):
        places = spread_taps(depth)
        assert len(places) == min(10, 2 * depth)
        assert places[-1] == Place(depth - 1, attention=False)
        order = [2 * place.block + (not place.attention) for place in places]
        gaps = [b - a for a, b in zip([-1, *order], order, strict=False)]
        assert max(gaps) - min(gaps) <= 1
        assert min(gaps) >= 1

    def test_a_shallow_model_is_tapped_after_every_attention_and_every_block(self):
        wanted = [(0, True), (0, False), (1, True), (1, False)]
        assert spread_taps(2) == [Place(*place) for place in wanted]

    def test_a_crop_is_of_whole_tokens_and_never_of_none(self):
        assert [crop_side(8, s) for s in (0.5, 1.0, 0.3, 0.01)] == [4, 8, 2, 1]


class TestBackbone:
    @torch.no_grad()
    def test_the_features_are_the_models_own_each_token_normalised(self):
        """In the order of the places, whichever of them are attentions."""
        model = teacher(depth=3)
        places = [Place(2, True), Place(0, False), Place(2, False), Place(1, True)]
        found = backbone_of(model, places)(X, T, Y, None, None)
        with tapped(model, [0, 2], [1, 2]) as taps:
            model(X, 1000 * T, Y)
        own = [taps.attended[2], taps.features[0], taps.features[2], taps.attended[1]]
        assert found.shape == (4, 2, 8, 8, 32)
        for one, expected in zip(found, own, strict=True):
            normed = F.layer_norm(expected, (32,)).unflatten(1, (8, 8))
            torch.testing.assert_close(one, normed, rtol=0, atol=1e-5)
        assert found.mean(dim=-1).abs().max() < 1e-5
        assert found.var(dim=-1, correction=0).mean().item() == pytest.approx(1, abs=1e-2)

    @torch.no_grad()
    def test_the_model_is_told_the_time_as_it_counts_it(self):
        model, told = teacher(), []
        hook = model.t_embedder.register_forward_pre_hook(lambda _, args: told.append(args[0]))
        chain = process_of(teacher(), DDPMConfig())
        for process in (process_of(model), chain):
            Backbone(model, process, spread_taps(2))(X, T, Y, None, None)
        hook.remove()
        assert [one.tolist() for one in told] == [[250, 500], [249, 499]]

    @pytest.mark.parametrize("position", ENCODINGS, ids=str)
    @torch.no_grad()
    def test_what_enters_the_first_block_of_a_crop_is_a_part_of_the_whole(self, position):
        """Tokens with the positions added, the condition, and the rotations."""
        model, given = teacher(position=position), []
        hook = model.blocks[0].register_forward_pre_hook(lambda _, args: given.append(args))
        for box in (None, BOX):
            found = backbone_of(model)(X, T, Y, box, seeds_for(model))
            assert found.isfinite().all()
        hook.remove()
        (whole, condition, _, turned, *_), (crop, same, _, cropped, *_) = given
        torch.testing.assert_close(crop, inside(whole), rtol=0, atol=1e-5)
        assert torch.equal(condition, same)
        assert (turned is None) == (position["kind"] in ("sincos", "none") or "base" in position)
        for mine, part in zip(cropped or (), turned or (), strict=True):
            expected = inside(part.expand(2, -1, -1))
            torch.testing.assert_close(mine.expand_as(expected), expected, rtol=0, atol=1e-5)

    @pytest.mark.parametrize("position", ENCODINGS, ids=str)
    @torch.no_grad()
    def test_where_tokens_cannot_see_each_other_a_crop_has_the_features_of_the_whole(
        self, position
    ):
        model = teacher(position=position, depth=3)
        for block in model.blocks:
            block.attn.proj.weight.zero_()
        places = [Place(number, False) for number in range(3)]
        whole, crop = (
            backbone_of(model, places)(X, T, Y, box, seeds_for(model)) for box in (None, BOX)
        )
        assert crop.shape == (3, 2, 4, 5, 32)
        expected = whole[:, :, 3:7, 1:6]
        torch.testing.assert_close(crop, expected, rtol=0, atol=1e-4)

    @torch.no_grad()
    def test_a_crop_knows_where_it_lies(self):
        """The same pixels, as if cut out elsewhere: other coordinates, other features."""
        model = teacher()
        plain = torch.ones_like(X)
        boxes = Box(0, 0, 4, 4), Box(4, 4, 4, 4)
        first, other = (backbone_of(model)(plain, T, Y, box, None) for box in boxes)
        assert (first - other).abs().max() > 0.1

    @torch.no_grad()
    def test_other_seeds_draw_other_positions_and_the_same_seeds_the_same(self):
        backbone = backbone_of(teacher(position=DRAWN))
        first, again, other = (
            backbone(X, T, Y, None, seeds) for seeds in (SEEDS, SEEDS, [SEEDS[0], 9])
        )
        assert torch.equal(first, again)
        assert torch.equal(first[:, 0], other[:, 0])
        assert not torch.allclose(first[:, 1], other[:, 1], atol=1e-3)

    @torch.no_grad()
    def test_other_shapes_than_the_trained_one_are_seen_too(self):
        x = torch.randn(2, 3, 8, 20, generator=torch.Generator().manual_seed(0))
        assert backbone_of(teacher())(x, T, Y, None, None).shape == (4, 2, 4, 10, 32)

    @torch.no_grad()
    def test_a_model_that_is_told_of_crops_is_told_the_same_in_all_heads(self):
        model, given = teacher(micro="canvas", crop_coords=True), []
        hook = model.blocks[0].register_forward_pre_hook(lambda _, args: given.append(args[1]))
        for box in (None, BOX):
            backbone_of(model)(X, T, Y, box, None)
        hook.remove()
        assert torch.equal(*given)

    def test_gradients_reach_the_input_and_inside_the_box_alone(self):
        model, x = teacher(), X.clone().requires_grad_()
        found = backbone_of(model)(x, T, Y, BOX, None)
        weights = torch.randn(found.shape, generator=torch.Generator().manual_seed(1))
        (slope,) = torch.autograd.grad((found * weights).sum(), x)
        seen = torch.zeros(16, 16, dtype=torch.bool)
        seen[6:14, 2:12] = True
        assert (slope[..., seen] != 0).all()
        assert not slope[..., ~seen].any()
        assert all(weight.grad is None for weight in model.parameters())

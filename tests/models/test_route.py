"""Tokens that skip blocks: which, where they are meanwhile, and that nothing is lost."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from diffgen.config.model import SIZES
from diffgen.config.route import RouteConfig
from diffgen.models.dit import DiT
from diffgen.models.route import Route, draw_route, kept_count, put_back, take
from diffgen.models.taps import tapped
from diffgen.models.tokens import grid_coords, patchify
from tests.tiny import build

X = torch.randn(2, 3, 8, 12, generator=torch.Generator().manual_seed(0))
T, Y = torch.tensor([300.0, 800.0]), torch.tensor([0, 2])
TOKENS = 4 * 6
ROUTE = draw_route(0, [0, 1], TOKENS, 0.5, 1, 3)
SKIP = torch.ones(2, TOKENS, dtype=torch.bool).scatter(1, ROUTE.kept, False)
MODELS = [
    {"position": {"kind": "sincos"}},
    {"position": {"kind": "rope"}, "adaln_rank": 4},
    {"position": {"kind": "rope", "scaling": "yarn"}},
]


def model_of(**options):
    return build(depth=4, **options).transformer


class TestDrawing:
    def test_the_tokens_of_a_sample_are_a_function_of_seed_and_number(self):
        together = draw_route(3, [5, 9, 2], 64, 0.5, 1, 2).kept
        assert torch.equal(together[1:2], draw_route(3, [9], 64, 0.5, 1, 2).kept)
        for other in (draw_route(4, [9], 64, 0.5, 1, 2), draw_route(3, [8], 64, 0.5, 1, 2)):
            assert not torch.equal(together[1:2], other.kept)

    def test_places_are_ascending_and_occur_once(self):
        kept = draw_route(0, range(20), 30, 0.4, 1, 2).kept
        assert kept.shape == (20, 18)
        assert kept.dtype == torch.int64
        assert (kept.diff() > 0).all()
        assert (kept.min(), kept.max()) == (0, 29)

    def test_every_token_skips_as_often(self):
        """1,000 images: 500 each, with a standard deviation of 16."""
        counts = draw_route(0, range(1000), 16, 0.5, 1, 2).kept.flatten().bincount()
        assert (counts - 500).abs().max() < 80

    @pytest.mark.parametrize(
        ("tokens", "share", "kept"), [(256, 0.5, 128), (256, 0.75, 64), (16, 0.1, 14), (2, 0.9, 1)]
    )
    def test_the_share_is_of_those_that_skip_and_one_is_left(self, tokens, share, kept):
        assert kept_count(tokens, share) == kept


class TestTakingAndPuttingBack:
    def test_what_was_taken_lands_where_it_came_from(self):
        x = torch.randn(2, TOKENS, 5)
        taken = take(x, ROUTE.kept)
        assert torch.equal(taken[1, 3], x[1, ROUTE.kept[1, 3]])
        assert torch.equal(put_back(x, ROUTE.kept, taken), x)
        put = put_back(x, ROUTE.kept, taken + 1)
        assert torch.equal(put[SKIP], x[SKIP])
        assert torch.equal(put[~SKIP], x[~SKIP] + 1)

    def test_what_all_images_or_all_tokens_share_is_taken_too(self):
        shared = torch.randn(1, TOKENS, 5)
        expected = take(shared.repeat(2, 1, 1), ROUTE.kept)
        assert torch.equal(take(shared, ROUTE.kept), expected)
        assert torch.equal(take(T[:, None], ROUTE.kept), T[:, None])


class TestAModel:
    @torch.no_grad()
    @pytest.mark.parametrize("options", MODELS)
    def test_a_route_that_keeps_every_token_changes_no_bit(self, options):
        model = model_of(**options)
        everything = Route(torch.arange(TOKENS).expand(2, -1), 1, 3)
        assert torch.equal(model(X, T, Y, route=everything), model(X, T, Y))

    @torch.no_grad()
    def test_tokens_that_skip_come_back_as_they_were(self):
        model, given = model_of(), []
        model.blocks[3].register_forward_pre_hook(lambda _, args: given.append(args[0]))
        with tapped(model, [0, 2]) as taps:
            model(X, T, Y, route=ROUTE)
        assert taps.features[0].shape == (2, TOKENS, 32)
        assert torch.equal(given[0][SKIP], taps.features[0][SKIP])
        assert torch.equal(take(given[0], ROUTE.kept), taps.features[2])
        assert taps.features[2].shape == (2, TOKENS // 2, 32)

    @torch.no_grad()
    @pytest.mark.parametrize("options", MODELS)
    def test_the_blocks_between_see_the_kept_tokens_alone_at_their_places(self, options):
        """Along all blocks, a route is a pass of those tokens with their coordinates."""
        model = model_of(**options)
        tokens, coords = patchify(X, 2), grid_coords(4, 6).expand(2, -1, -1)
        sizes = torch.tensor([[4, 6], [4, 6]])
        kept = ROUTE.kept
        out = model(tokens, T, Y, coords, sizes=sizes, route=Route(kept, 0, 4))
        alone = model(take(tokens, kept), T, Y, take(coords, kept), sizes=sizes)
        torch.testing.assert_close(take(out, kept), alone)
        assert not torch.allclose(alone, take(model(tokens, T, Y, coords), kept), atol=1e-2)

    def test_every_token_is_in_the_loss_and_reaches_it(self):
        x = X.clone().requires_grad_()
        model = model_of()
        out = model(x, T, Y, route=ROUTE)
        (gradient,) = torch.autograd.grad(out.square().mean(), x)
        assert (patchify(gradient, 2).abs().amax(-1) > 0).all()
        assert not torch.equal(out, model(x, T, Y))

    @torch.no_grad()
    def test_an_adapter_attends_among_the_kept_tokens(self):
        seen = []

        class Noting:
            def condition(self, condition):
                return condition

            def attend(self, number, attention, x, *given):
                seen.append((number, x.shape[1]))
                return attention(x, *given)

        model = model_of()
        out = model(X, T, Y, route=ROUTE, adapter=Noting())
        assert seen == [(0, 24), (1, 12), (2, 12), (3, 24)]
        assert torch.equal(out, model(X, T, Y, route=ROUTE))

    def test_padded_and_packed_batches_are_refused(self):
        model, lengths = model_of(), torch.tensor([10, 14])
        tokens, coords = torch.randn(TOKENS, 12), torch.rand(TOKENS, 2)
        with pytest.raises(ValueError, match="route: only for images of one size"):
            model(tokens, T, Y, coords, lengths=lengths, route=ROUTE)
        mask = torch.ones(2, 12, dtype=torch.bool)
        with pytest.raises(ValueError, match="route: only for images of one size"):
            model(
                tokens.unflatten(0, (2, 12)),
                T,
                Y,
                coords.unflatten(0, (2, 12)),
                mask=mask,
                route=Route(ROUTE.kept[:, :4] // 2, 1, 3),
            )

    @pytest.mark.parametrize(("first", "last"), [(1, 5), (2, 2), (-1, 2)])
    def test_blocks_that_are_not_there_are_refused(self, first, last):
        with pytest.raises(ValueError, match=f"route: blocks {first} to {last} of a model of 4"):
            model_of()(X, T, Y, route=Route(ROUTE.kept, first, last))


class TestGradientCheckpointing:
    def losses(self, checkpointing: bool, **options):
        """Gradients of the weights with a tap within the route and one behind it, and the bytes
        kept for them."""
        model, kept = model_of(**options), []
        if checkpointing:
            model.enable_gradient_checkpointing()

        def keep(z):
            kept.append(z.numel() * z.element_size())
            return z

        with (
            tapped(model, [1, 3]) as taps,
            torch.autograd.graph.saved_tensors_hooks(keep, lambda z: z),
        ):
            out = model(X, T, Y, route=ROUTE)
        loss = out.square().sum() + sum(z.sin().sum() for z in taps.features.values())
        loss.backward()
        return [p.grad for p in model.parameters()], sum(kept)

    @pytest.mark.parametrize("options", MODELS)
    def test_gradients_are_bit_equal_and_less_is_kept(self, options):
        (plain, most), (again, least) = self.losses(False, **options), self.losses(True, **options)
        for one, other in zip(plain, again, strict=True):
            assert torch.equal(one, other)
        assert any(one.any() for one in plain)
        assert least < most / 2


class TestWhatItCosts:
    """DiT-XL/2 on one image of 256 tokens, counted without computing."""

    @pytest.fixture
    def model(self):
        depth, width, heads = SIZES["XL"]
        options = {"hidden_size": width, "depth": depth, "num_heads": heads, "mlp": "mlp"}
        position = {"position": {"kind": "sincos"}, "qk_norm": False}
        with torch.device("meta"):
            return DiT(in_channels=4, patch_size=2, num_classes=1000, **options, **position)

    def cost(self, model, route: RouteConfig | None) -> tuple[float, float]:
        """Of a step forward and back: GFLOPs, and MiB kept in between besides weights."""
        kept = {}

        def keep(z):
            owner = z if z._base is None else z._base
            if not isinstance(owner, nn.Parameter):
                storage = z.untyped_storage()
                kept[storage._cdata] = storage
            return z

        meta = torch.device("meta")
        x, t = torch.empty(1, 4, 32, 32, device=meta), torch.empty(1, device=meta)
        if route is not None:
            bounds = route.bounds(len(model.blocks))
            route = draw_route(0, [0], 256, route.share, *bounds).to(meta)
        with (
            FlopCounterMode(display=False) as flops,
            torch.autograd.graph.saved_tensors_hooks(keep, lambda z: z),
        ):
            model(x, t, t.long(), route=route).square().mean().backward()
        mebibytes = sum(storage.nbytes() for storage in kept.values()) / 2**20
        return flops.get_total_flops() / 1e9, mebibytes

    def test_a_route_saves_two_fifths(self, model):
        plain, routed = self.cost(model, None), self.cost(model, RouteConfig())
        assert plain == pytest.approx((712, 810), rel=5e-3)
        assert routed == pytest.approx((428, 472), rel=5e-3)

    def test_checkpointing_keeps_a_little_for_a_third_more(self, model):
        model.enable_gradient_checkpointing()
        assert self.cost(model, None) == pytest.approx((949, 35), rel=5e-3)


class TestTheConfiguration:
    def test_tokens_come_back_four_blocks_before_the_end_if_nothing_is_said(self):
        assert RouteConfig().bounds(28) == (2, 24)
        assert RouteConfig(first=1, last=3).bounds(28) == (1, 3)
        assert list(RouteConfig().problems(28, False)) == []

    @pytest.mark.parametrize(
        ("route", "depth", "told"),
        [
            (RouteConfig(), 4, "train.route.last: 0 (none: the fourth from the end) must be above"),
            (RouteConfig(first=5, last=5), 12, "train.route.last: 5 must be above"),
            (RouteConfig(last=13), 12, "at most model.depth 12"),
        ],
    )
    def test_blocks_out_of_order_are_named(self, route, depth, told):
        (problem,) = route.problems(depth, False)
        assert told in problem

    def test_mixed_sizes_are_refused(self):
        (problem,) = RouteConfig().problems(28, True)
        assert problem.startswith("train.route: it needs images of one size")

    @pytest.mark.parametrize("share", [0, 1, -0.5])
    def test_a_share_of_none_or_all_is_refused(self, share):
        with pytest.raises(ValueError, match="share"):
            RouteConfig(share=share)

"""Features on the way through a model: which they are, and that nothing is left behind."""

import gc
import weakref

import pytest
import torch
from accelerate import cpu_offload

from diffgen.models.taps import frozen, tapped
from tests.tiny import build

X = torch.randn(2, 3, 8, 12, generator=torch.Generator().manual_seed(0))
T, Y = torch.tensor([300.0, 800.0]), torch.tensor([0, 2])


@pytest.fixture
def model():
    return build(depth=3).transformer.eval()


def hooks(model) -> int:
    return sum(len(module._forward_hooks) for module in model.modules())


def needs(model) -> dict[str, bool]:
    return {name: weight.requires_grad for name, weight in model.named_parameters()}


class TestTapped:
    @torch.no_grad()
    def test_the_last_blocks_tokens_are_what_the_final_layer_gets(self, model):
        given = []
        model.final_layer.register_forward_pre_hook(lambda _, args: given.append(args[0]))
        with tapped(model, [0, 2]) as taps:
            model(X, T, Y)
        assert set(taps.features) == {0, 2}
        assert torch.equal(taps.features[2], given[0])
        assert taps.features[0].shape == (2, 4 * 6, 32)
        assert not torch.equal(taps.features[0], taps.features[2])

    @torch.no_grad()
    def test_the_time_is_embedded_without_the_label(self, model):
        with tapped(model, []) as taps:
            model(X, T, Y)
        assert taps.features == {}
        assert torch.equal(taps.time, model.t_embedder(T))

    @torch.no_grad()
    def test_the_output_is_the_same(self, model):
        expected = model(X, T, Y)
        with tapped(model, [0, 1, 2]):
            assert torch.equal(model(X, T, Y), expected)

    @torch.no_grad()
    def test_a_second_pass_takes_the_place_of_the_first(self, model):
        with tapped(model, [1]) as taps:
            model(X, T, Y)
            first = taps.features[1]
            model(X + 1, T, Y)
        assert not torch.equal(taps.features[1], first)

    @torch.no_grad()
    def test_what_attention_found_is_its_output_before_the_gate(self, model):
        given = []
        model.blocks[1].attn.register_forward_hook(lambda _, __, out: given.append(out))
        with tapped(model, [1], [1, 2]) as taps:
            model(X, T, Y)
        assert set(taps.features) == {1}
        assert set(taps.attended) == {1, 2}
        assert torch.equal(taps.attended[1], given[0])
        assert taps.attended[2].shape == (2, 4 * 6, 32)
        assert not torch.equal(taps.attended[1], taps.features[1])

    @torch.no_grad()
    def test_attentions_alone_may_be_kept_and_by_default_none_is(self, model):
        with tapped(model, [], [0]) as taps:
            model(X, T, Y)
        assert (set(taps.features), set(taps.attended)) == (set(), {0})
        with tapped(model, [0]) as taps:
            model(X, T, Y)
        assert taps.attended == {}

    def test_gradients_flow_through_attentions(self, model):
        x = X.clone().requires_grad_()
        with tapped(model, [], [1]) as taps:
            model(x, T, Y)
        (gradient,) = torch.autograd.grad(taps.attended[1][1].square().sum(), x)
        assert gradient[1].any()
        assert not gradient[0].any()

    def test_gradients_flow_through(self, model):
        x = X.clone().requires_grad_()
        with tapped(model, [1]) as taps:
            model(x, T, Y)
        (gradient,) = torch.autograd.grad(taps.features[1][1].square().sum(), x)
        assert gradient[1].any()
        assert not gradient[0].any()

    def test_hooks_are_gone_afterwards_also_after_an_error(self, model):
        before = hooks(model)
        with tapped(model, [0, 1]):
            assert hooks(model) == before + 3
        with tapped(model, [0, 1], [1, 2]):
            assert hooks(model) == before + 5
        assert hooks(model) == before
        with pytest.raises(ValueError, match="not divisible"), tapped(model, [0, 1]):
            model(X[..., :7], T, Y)
        assert hooks(model) == before

    @pytest.mark.parametrize("number", [3, -1])
    def test_a_block_that_is_not_there_is_named_and_leaves_no_hook(self, model, number):
        message = f"block {number} is not one of the model's 3"
        for asked in (([0, number],), ([0], [number])):
            with pytest.raises(ValueError, match=message), tapped(model, *asked):
                pass
            assert hooks(model) == 0

    def test_nothing_keeps_the_features(self, model):
        with tapped(model, [1]) as taps:
            model(X, T, Y)
        kept = weakref.ref(taps.features[1])
        assert kept().grad_fn is not None
        del taps
        gc.collect()
        assert kept() is None


class TestFrozen:
    def test_weights_want_no_gradient_meanwhile_and_are_restored(self, model):
        model.blocks[0].requires_grad_(False)
        before = needs(model)
        assert len(set(before.values())) == 2
        with frozen(model):
            assert not any(needs(model).values())
        assert needs(model) == before
        with pytest.raises(KeyError), frozen(model):
            raise KeyError
        assert needs(model) == before

    def test_the_gradient_of_the_input_is_the_same(self, model):
        x = X.clone().requires_grad_()
        (expected,) = torch.autograd.grad(model(x, T, Y).sum(), x)
        with frozen(model):
            (found,) = torch.autograd.grad(model(x, T, Y).sum(), x)
        assert expected.any()
        assert torch.equal(found, expected)

    def test_weights_that_come_and_go_layer_by_layer_are_restored_too(self, model):
        before = needs(model)
        cpu_offload(model, torch.device("cpu"))
        with frozen(model):
            model(X, T, Y)
        assert needs(model) == before

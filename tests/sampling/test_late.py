"""Late constraints while drawing: where they act, in batches, together, and mistakes."""

import pytest
import torch

from diffgen.guidance import Constraint
from diffgen.guidance.late import rms
from diffgen.lacon.conditions import EDGE, MASK, PALETTE
from diffgen.lacon.losses import Aligned, LowResolution
from tests.aligners import fresh, maps, wish
from tests.late import RULES, SOLVERS, X_T, late, moved, pipe_of
from tests.tiny import build, draw

# diffusers hands a tensor to numpy the old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


class TestWhereNoneActs:
    @pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
    @pytest.mark.parametrize("solver", SOLVERS)
    def test_pictures_are_bit_identical_to_unconstrained_ones(self, solver, rule):
        pipe = pipe_of(solver)
        loss = wish(pipe, MASK)
        expected = draw(pipe, guidance=rule)
        for idle in (Constraint(loss, 0.0), Constraint(loss, 1.0, until=1.0)):
            found = draw(pipe, guidance=rule, constraints=[idle], recurrence=3)
            assert torch.equal(found, expected)
        acting = draw(pipe, guidance=rule, constraints=[Constraint(loss, 0.3, until=0.5)])
        assert not torch.allclose(acting, expected, atol=1e-2)

    @pytest.mark.parametrize("loss", [wish(build(), MASK), LowResolution(torch.zeros(1, 3, 4, 4))])
    def test_the_end_itself_is_outside(self, loss):
        pipe = build()
        base, constrained = late(pipe, Constraint(loss, 0.3, until=0.5))
        with torch.no_grad():
            for t, same in ((0.2, True), (0.5, True), (0.51, False), (1.0, False)):
                found, expected = constrained(X_T, t, True).x0, base(X_T, t, True).x0
                assert torch.equal(found, expected) == same


class TestBatches:
    @pytest.mark.parametrize("solver", ["euler", "dpmpp", "ddpm"])
    @pytest.mark.parametrize("form", ["rms", "ratio_rms", "norm"])
    def test_four_images_at_once_are_four_alone(self, solver, form):
        pipe, labels = pipe_of(solver), (0, 1, 2, 0)
        aligner, wanted = fresh(pipe, EDGE, image_std=0.3), maps(EDGE, 4, (8, 8))
        small = maps(PALETTE, 4, (4, 4), seed=6)
        scale = {"rms": 1.0, "ratio_rms": 0.3, "norm": 0.3}[form]
        options = {"guidance": RULES[1], "num_inference_steps": 6, "recurrence": 2}

        def constraints(which: slice) -> list[Constraint]:
            return [
                Constraint(Aligned(aligner, EDGE, wanted[which]), scale, form, until=0.3),
                Constraint(LowResolution(small[which]), 0.5, "none", until=0.5),
            ]

        together = draw(pipe, labels, constraints=constraints(slice(4)), **options)
        assert not torch.allclose(together, draw(pipe, labels, **options), atol=0.1)
        for k, label in enumerate(labels):
            mine = constraints(slice(k, k + 1))
            alone = draw(pipe, (label,), constraints=mine, image_numbers=[k], **options)
            torch.testing.assert_close(alone[0], together[k], rtol=0, atol=1e-4)

    def test_one_map_serves_all_images(self):
        pipe = build()
        loss = wish(pipe, MASK, count=1)
        repeated = Aligned(loss.aligner, MASK, loss.wanted.repeat(3, 1, 1, 1))
        one, three = (draw(pipe, constraints=[Constraint(x, 0.3)]) for x in (loss, repeated))
        assert torch.equal(one, three)


class TestSeveral:
    def test_each_adds_the_step_it_takes_alone(self):
        """One forward pass for both, with the gradients of two."""
        pipe = build()
        mask = Constraint(wish(pipe, MASK, seed=1), 0.3)
        palette = Constraint(wish(pipe, PALETTE, seed=2, blocks=[1]), 0.2)
        alone = [moved(pipe, constraint) for constraint in (mask, palette)]
        together = moved(pipe, mask, palette)
        assert all(rms(step).min() > 0.1 for step in alone)
        torch.testing.assert_close(together, alone[0] + alone[1], rtol=0, atol=1e-5)

    def test_the_shared_pass_is_one(self):
        pipe, passes = build(), []
        pipe.transformer.register_forward_hook(lambda *_: passes.append(1))
        two = [Constraint(wish(pipe, condition), 0.3) for condition in (MASK, PALETTE)]
        moved(pipe, *two)
        assert len(passes) == 1 + 2  # guidance alone, then the conditional and the other pass

    def test_each_ends_by_itself(self):
        pipe = build()
        first = Constraint(wish(pipe, MASK), 0.3, until=0.8)
        second = Constraint(wish(pipe, PALETTE), 0.3, until=0.2)
        assert torch.equal(moved(pipe, first, second, t=0.5), moved(pipe, second, t=0.5))


class TestWeights:
    def test_nothing_that_counts_is_no_constraint(self):
        pipe = build()
        nowhere = wish(pipe, MASK, weight=torch.zeros(1, 1, 8, 8))
        everywhere = wish(pipe, MASK, weight=torch.ones(1, 1, 8, 8))
        plain = draw(pipe)
        found = draw(pipe, constraints=[Constraint(nowhere, 1.0)])
        torch.testing.assert_close(found, plain, rtol=0, atol=1e-4)
        steered = draw(pipe, constraints=[Constraint(everywhere, 1.0)])
        assert torch.equal(steered, draw(pipe, constraints=[Constraint(wish(pipe, MASK), 1.0)]))
        assert not torch.allclose(steered, plain, atol=1e-2)


class TestMistakes:
    def test_what_is_no_constraint_is_named(self):
        loss = LowResolution(torch.zeros(1, 3, 4, 4))
        with pytest.raises(ValueError, match=r"constraints: LowResolution is no Constraint"):
            draw(build(), constraints=[loss])
        with pytest.raises(ValueError, match="constraints: give a list of them"):
            draw(build(), constraints=Constraint(loss))

    def test_maps_of_another_size_are_refused_before_anything_is_drawn(self):
        pipe = build()
        with pytest.raises(ValueError, match=r"mask is \(3, 1, 8, 8\), but \(3 or 1, 1, 16, 16\)"):
            draw(pipe, constraints=[Constraint(wish(pipe, MASK))], height=16, width=16)

    def test_a_block_the_model_does_not_have(self):
        pipe = build(depth=4)
        constraint = Constraint(wish(pipe, MASK, blocks=[0, 3]))
        with pytest.raises(ValueError, match="block 3 is not one of the model's 2"):
            draw(build(depth=2), constraints=[constraint])

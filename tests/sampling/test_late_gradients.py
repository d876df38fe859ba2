"""Gradients of late constraints, and that the loss falls."""

import gc
import weakref

import pytest
import torch
from torch import Tensor

from diffgen.guidance import Constraint
from diffgen.guidance.late import rms
from diffgen.lacon.conditions import MASK, PALETTE
from diffgen.lacon.losses import Aligned
from tests.aligners import fresh, pictures, trained, wish
from tests.late import LABELS, X_T, chain, late, moved
from tests.tiny import build, draw

# diffusers hands a tensor to numpy the old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


class TestGradients:
    @pytest.mark.parametrize("condition", [MASK, PALETTE], ids=lambda c: c.name)
    @pytest.mark.parametrize("checkpointing", [False, True])
    def test_they_are_those_of_finite_differences(self, condition, checkpointing):
        """In fp64: through the model, its aligner and the loss, in x_t."""
        pipe = build()
        pipe.transformer.double()
        if checkpointing:
            pipe.transformer.enable_gradient_checkpointing()
        loss = wish(pipe, condition)
        loss.aligner.double()
        x_t, t = X_T.double(), 0.7
        base, _ = late(pipe)
        gradient = moved(pipe, Constraint(loss, 1.0, "none"), t=t, x_t=x_t)
        directions = torch.randn(
            2, *x_t.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64
        )

        @torch.no_grad()
        def at(x: Tensor) -> Tensor:
            return loss(base.denoiser.observed(x, t, LABELS, None, loss.blocks)[1])

        for along in directions:
            difference = (at(x_t + 1e-5 * along) - at(x_t - 1e-5 * along)) / 2e-5
            found = (gradient * along).sum(dim=(1, 2, 3))
            assert found.abs().min() > 1e-3
            torch.testing.assert_close(found, difference, rtol=1e-6, atol=1e-7)

    def test_checkpointing_changes_no_bit(self):
        pipe = build()
        constraint = Constraint(wish(pipe, MASK), 0.3)
        expected = draw(pipe, constraints=[constraint])
        pipe.transformer.enable_gradient_checkpointing()
        assert torch.equal(draw(pipe, constraints=[constraint]), expected)

    @pytest.mark.parametrize("form", ["rms", "sign", "none"])
    def test_the_step_is_along_the_gradient_in_x_t_after_guidance(self, form):
        """Whatever the rule makes of the prediction, and with learned variances too."""
        for pipe in (build(), chain()):
            loss = wish(pipe, MASK, image_std=0.25)
            gradient = moved(pipe, Constraint(loss, 1.0, "none"))
            found = moved(pipe, Constraint(loss, 2.0, form))
            expected = {
                "rms": 0.5 * gradient / rms(gradient),
                "sign": 0.5 * gradient.sign(),
                "none": 2 * gradient,
            }[form]
            torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)

    def test_the_log_variance_is_the_conditional_passes(self):
        pipe = chain()
        base, constrained = late(pipe, Constraint(wish(pipe, MASK), 0.3))
        with torch.no_grad():
            found, expected = (denoise(X_T, 0.7, True, 0.6) for denoise in (constrained, base))
        assert expected.log_variance.shape == X_T.shape
        torch.testing.assert_close(found.log_variance, expected.log_variance, rtol=0, atol=1e-5)
        assert not found.x0.requires_grad
        assert not found.log_variance.requires_grad

    def test_weights_and_hooks_are_left_as_they_were(self):
        pipe = build()
        loss = wish(pipe, MASK)
        broken = Aligned(loss.aligner, MASK, torch.zeros(1, 1, 3, 3))
        for each in (loss, broken):
            _, constrained = late(pipe, Constraint(each, 0.3))
            try:
                with torch.no_grad():
                    constrained(X_T, 0.7, True)
            except RuntimeError:
                assert each is broken
            model = pipe.transformer
            assert all(weight.requires_grad for weight in model.parameters())
            assert all(weight.grad is None for weight in model.parameters())
            assert not any(module._forward_hooks for module in model.modules())

    def test_features_and_their_graph_are_let_go(self):
        pipe, kept = build(), []

        class Noting(Aligned):
            def __call__(self, seen):
                kept.extend(weakref.ref(x) for x in (*seen.features.values(), seen.x0))
                return super().__call__(seen)

        loss = wish(pipe, MASK)
        _, constrained = late(pipe, Constraint(Noting(loss.aligner, MASK, loss.wanted), 0.3))
        with torch.no_grad():
            result = constrained(X_T, 0.7, True)
        gc.collect()
        assert len(kept) == 3
        assert all(reference() is None for reference in kept)
        assert result.x0.isfinite().all()


class TestTheLossFalls:
    """By the aligner's own reading, of a wish that can be met."""

    @pytest.fixture(scope="class")
    @classmethod
    def ready(cls):
        pipe = build()
        denoiser = pipe.denoiser([])
        aligner = trained(denoiser, fresh(pipe, PALETTE), PALETTE, 150)
        return pipe, aligner, pictures(8, (8, 8), seed=3), pictures(8, (8, 8), seed=4)

    @staticmethod
    def reading(pipe, loss, x, t) -> Tensor:
        labels = torch.zeros(len(x), dtype=torch.int64)
        with torch.no_grad():
            return loss(pipe.denoiser([]).observed(x, t, labels, None, loss.blocks)[1])

    @pytest.mark.parametrize("t", [0.9, 0.6, 0.3])
    def test_down_the_gradient_at_a_frozen_x_t(self, ready, t):
        pipe, aligner, own, other = ready
        x = (1 - t) * own + t * torch.randn(own.shape, generator=torch.Generator().manual_seed(7))
        loss = Aligned(aligner, PALETTE, PALETTE.of(other))
        labels = torch.zeros(8, dtype=torch.int64)
        base, constrained = late(pipe, Constraint(loss, 0.02), labels=labels)
        with torch.no_grad():
            step = base(x, t, True).x0 - constrained(x, t, True).x0
        torch.testing.assert_close(rms(step), torch.full((8, 1, 1, 1), 0.02), rtol=0.01, atol=0)
        before, after, up = (
            self.reading(pipe, loss, z, t) for z in (x, x - 0.5 * step, x + 0.5 * step)
        )
        assert (after < before).all()
        assert (up > before).all()

    @pytest.mark.parametrize(("t", "s"), [(0.9, 0.8), (0.6, 0.5), (0.3, 0.2)])
    def test_after_one_step_of_the_solver(self, ready, t, s):
        pipe, aligner, own, other = ready
        x = (1 - t) * own + t * torch.randn(own.shape, generator=torch.Generator().manual_seed(7))
        loss = Aligned(aligner, PALETTE, PALETTE.of(other))
        labels = torch.zeros(8, dtype=torch.int64)
        losses = []
        for denoise in late(pipe, Constraint(loss, 0.3), labels=labels):
            with torch.no_grad():
                x0 = denoise(x, t, True, s).x0
            x_s = (1 - s) * x0 + s / t * (x - (1 - t) * x0)
            losses.append(self.reading(pipe, loss, x_s, s))
        assert (losses[1] < losses[0]).all()

    def test_pictures_come_closer_to_the_wish(self, ready):
        """Not the aligner's reading but the pixels, against wishes for other images."""
        pipe, aligner, _, other = ready
        wanted = PALETTE.of(other)
        loss = Aligned(aligner, PALETTE, wanted)
        options = {"labels": [0] * 8, "guidance_scale": 1.0, "num_inference_steps": 10}
        plain = draw(pipe, **options)
        steered = draw(pipe, constraints=[Constraint(loss, 0.3, until=0.1)], **options)

        def likeness(images: Tensor) -> Tensor:
            found = [PALETTE.find(z).flatten(1) for z in (images, wanted)]
            return torch.nn.functional.cosine_similarity(*found)

        assert likeness(steered).mean() > likeness(plain).mean() + 0.2

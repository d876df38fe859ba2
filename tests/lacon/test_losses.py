"""Losses of constraints: gradients, what they ask for, what they refuse."""

import pytest
import torch
from torch import Tensor

from diffgen.guidance.late import Seen
from diffgen.lacon.conditions import EDGE, EDGE_F1, MASK, PALETTE, Condition
from diffgen.lacon.losses import Aligned, Inpaint, LowResolution
from tests.aligners import fresh, maps, wish
from tests.tiny import build

SHAPE = (2, 3, 8, 12)


def unit(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*(shape or SHAPE), generator=generator, dtype=torch.float64)


def gradient(loss, x0: Tensor) -> Tensor:
    x0 = x0.clone().requires_grad_()
    (found,) = torch.autograd.grad(loss(Seen(x0, {}, None, (0, 0))).sum(), x0)
    return found


def known(columns: int) -> Tensor:
    part = torch.zeros(1, 1, 8, 12, dtype=torch.float64)
    part[..., :columns] = 1
    return part


ON_X0 = {
    "low_resolution": LowResolution(unit(1, 2, 3, 2, 3)),
    "low_resolution_of_all": LowResolution(unit(1, 1, 3, 4, 6)),
    "inpaint": Inpaint(unit(1), known(5)),
    "inpaint_softly": Inpaint(unit(1, 1, 3, 8, 12), unit(2, 2, 1, 8, 12).sigmoid()),
}


class TestOnX0:
    @pytest.mark.parametrize("name", ON_X0)
    def test_gradients_are_those_of_finite_differences(self, name):
        loss, x0, along = ON_X0[name], unit(3), unit(4)
        values = [loss(Seen(x0 + h * along, {}, None, (0, 0))) for h in (1e-4, -1e-4)]
        found = (gradient(loss, x0) * along).sum(dim=(1, 2, 3))
        torch.testing.assert_close(found, (values[0] - values[1]) / 2e-4, rtol=1e-7, atol=1e-9)

    @pytest.mark.parametrize("name", ON_X0)
    def test_it_fits_fp32_samples_and_reads_no_features(self, name):
        loss = ON_X0[name]
        loss.check(SHAPE)
        assert loss.blocks == ()
        value = loss(Seen(unit(3).float(), {}, None, (0, 0)))
        assert value.shape == (2,)
        assert value.dtype == torch.float32

    def test_the_gradient_of_a_low_resolution_is_each_blocks_error(self):
        wanted, x0 = unit(1, 2, 3, 2, 3), unit(3)
        error = torch.nn.functional.avg_pool2d(x0, 4) - wanted
        expected = error.repeat_interleave(4, 2).repeat_interleave(4, 3)
        torch.testing.assert_close(gradient(LowResolution(wanted), x0), expected)

    def test_one_step_along_it_meets_the_condition(self):
        for loss in (ON_X0["low_resolution"], ON_X0["inpaint"]):
            x0 = unit(3) - gradient(loss, unit(3))
            assert loss(Seen(x0, {}, None, (0, 0))).max() < 1e-25

    def test_what_is_not_known_is_left_alone(self):
        found = gradient(ON_X0["inpaint"], unit(3))
        assert found[..., :5].all()
        assert not found[..., 5:].any()

    def test_what_is_half_known_is_pulled_half_as_much(self):
        loss, x0 = ON_X0["inpaint_softly"], unit(3)
        torch.testing.assert_close(gradient(loss, x0), loss.known * (x0 - loss.wanted))

    @pytest.mark.parametrize(
        ("side", "message"),
        [
            ((3, 4), "a low resolution of 3x4 does not divide 8x12 in squares"),
            ((4, 4), "a low resolution of 4x4 does not divide 8x12 in squares"),
            ((16, 24), "a low resolution of 16x24 does not divide"),
        ],
    )
    def test_a_low_resolution_that_does_not_divide_is_refused(self, side, message):
        with pytest.raises(ValueError, match=message):
            LowResolution(torch.zeros(1, 3, *side)).check(SHAPE)

    @pytest.mark.parametrize(
        ("loss", "message"),
        [
            (
                LowResolution(torch.zeros(3, 3, 4, 6)),
                r"low resolution is \(3, 3, 4, 6\), but \(2 o",
            ),
            (LowResolution(torch.zeros(1, 1, 4, 6)), r"\(2 or 1, 3, 4, 6\) is needed"),
            (Inpaint(torch.zeros(1, 3, 8, 8), known(1)), r"inpaint is \(1, 3, 8, 8\)"),
            (Inpaint(torch.zeros(1, 3, 8, 12), known(1)[0]), r"known part is \(1, 8, 12\)"),
            (Inpaint(torch.zeros(1, 3, 8, 12), torch.zeros(2, 3, 8, 12)), r"known part is \(2, 3"),
        ],
    )
    def test_maps_of_another_shape_are_refused(self, loss, message):
        with pytest.raises(ValueError, match=message):
            loss.check(SHAPE)


class TestAligned:
    def observe(self, pipe, loss, x_t=None) -> Seen:
        x = unit(0).float() if x_t is None else x_t
        labels = torch.tensor([0, 1])
        return pipe.denoiser([]).observed(x, 0.7, labels, None, loss.blocks)[1]

    @torch.no_grad()
    @pytest.mark.parametrize("condition", [MASK, PALETTE], ids=lambda c: c.name)
    def test_it_is_the_conditions_loss_of_what_the_aligner_reads(self, condition):
        pipe = build()
        loss = wish(pipe, condition, count=2, size=(8, 12), image_std=0.3, until=0.4)
        loss.check(SHAPE)
        seen = self.observe(pipe, loss)
        expected = condition.loss(loss.aligner(seen), loss.wanted)
        assert torch.equal(loss(seen), expected)
        assert loss(seen).shape == (2,)
        assert (loss.unit, loss.until, loss.blocks) == (0.3, 0.4, (0, 1))

    def test_half_a_plane_of_weights_leaves_the_other_half_out(self):
        """In what is read: no gradient from there, whatever is wanted there."""
        pipe = build()
        weight = torch.zeros(1, 1, 8, 12)
        weight[..., :6] = 1
        loss = wish(pipe, PALETTE, count=2, size=(8, 12), weight=weight)
        with torch.no_grad():
            predicted = loss.aligner(self.observe(pipe, loss))
        predicted.requires_grad_()
        value = PALETTE.loss(predicted, loss.wanted, loss.weight)
        (found,) = torch.autograd.grad(value.sum(), predicted)
        assert found[..., :6].all()
        assert not found[..., 6:].any()
        other = loss.wanted.clone()
        other[..., 6:] *= -1
        seen = self.observe(pipe, loss)
        same = Aligned(loss.aligner, PALETTE, other, weight)
        assert torch.equal(same(seen), loss(seen))

    def test_a_users_own_condition(self):
        """From the pictures' red to a gradient in x_t."""
        red = Condition("red", 1, False, lambda pictures: pictures[:, :1], EDGE_F1)
        pipe = build()
        pictures = unit(5).float().clamp(-1, 1)
        loss = Aligned(fresh(pipe, red), red, red.of(pictures))
        loss.check(SHAPE)
        x_t = unit(0).float().requires_grad_()
        (found,) = torch.autograd.grad(loss(self.observe(pipe, loss, x_t)).sum(), x_t)
        assert found.shape == SHAPE
        assert found.any()

    def test_maps_in_fp64_are_taken(self):
        pipe = build()
        loss = wish(pipe, MASK, count=2, size=(8, 12))
        double = Aligned(loss.aligner, MASK, loss.wanted.double())
        with torch.no_grad():
            seen = self.observe(pipe, loss)
            assert torch.equal(double(seen), loss(seen))

    @pytest.mark.parametrize(
        ("shape", "message"),
        [
            ((2, 1, 8, 8), r"constraints: mask is \(2, 1, 8, 8\), but \(2 or 1, 1, 8, 12\) is n"),
            ((3, 1, 8, 12), r"mask is \(3, 1, 8, 12\)"),
            ((2, 3, 8, 12), r"mask is \(2, 3, 8, 12\)"),
            ((8, 12), r"mask is \(8, 12\)"),
        ],
    )
    def test_maps_of_another_shape_are_refused(self, shape, message):
        aligner = fresh(build(), MASK)
        with pytest.raises(ValueError, match=message):
            Aligned(aligner, MASK, torch.zeros(shape)).check(SHAPE)
        weight = torch.zeros(2, 1, 8, 12)
        Aligned(aligner, MASK, torch.zeros(1, 1, 8, 12), weight).check(SHAPE)
        with pytest.raises(ValueError, match=r"weight of mask is \(2, 1, 8, 11\)"):
            Aligned(aligner, MASK, torch.zeros(1, 1, 8, 12), weight[..., 1:]).check(SHAPE)

    def test_binary_maps_lie_between_0_and_1(self):
        aligner = fresh(build(), MASK)
        for wanted in (torch.full((1, 1, 8, 12), -0.1), torch.full((1, 1, 8, 12), 255.0)):
            with pytest.raises(ValueError, match=r"maps of mask lie in \[0, 1\], but these in \["):
                Aligned(aligner, MASK, wanted).check(SHAPE)
        Aligned(aligner, MASK, torch.ones(1, 1, 8, 12, dtype=torch.bool)).check(SHAPE)

    def test_an_aligner_of_another_condition_is_refused(self):
        loss = Aligned(fresh(build(), PALETTE), EDGE, maps(EDGE, 2, (8, 12)))
        with pytest.raises(ValueError, match="edge has 1 channels, but the aligner reads palette"):
            loss.check(SHAPE)

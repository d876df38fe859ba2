"""Steps along a loss's gradient: every form against its formula, LaCon's own, ranges."""

import math
from dataclasses import dataclass

import pytest
import torch

from diffgen.guidance.late import Constraint, Loss, rms, unit_step
from diffgen.processes import gaussian

FORMS = ["rms", "ratio_rms", "norm", "sign", "none"]


def unit(seed: int, *shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*(shape or (4, 3, 6, 5)), generator=generator, dtype=torch.float64)


GRADIENT, X_T, X0 = 0.3 * unit(0), unit(1), unit(2)
LOSS = torch.tensor([0.5, 2.0, 8.0, 0.02], dtype=torch.float64)
SIZES = GRADIENT.square().mean(dim=(1, 2, 3)).sqrt().view(4, 1, 1, 1)


@dataclass(frozen=True)
class Plain(Loss):
    """A loss in name only."""

    unit: float = 1.0
    until: float = 0.0
    region: torch.Tensor | None = None

    def __call__(self, seen):
        return seen.x0.sum(dim=(1, 2, 3))


def step(form: str, gradient=GRADIENT, loss=LOSS, alpha=0.6) -> torch.Tensor:
    return unit_step(form, gradient, loss, X_T, X0, alpha)


class TestForms:
    def test_rms_has_a_root_mean_square_of_1(self):
        found = step("rms")
        torch.testing.assert_close(rms(found), torch.ones_like(SIZES))
        torch.testing.assert_close(found * SIZES, GRADIENT)

    def test_ratio_rms_has_that_of_the_noise_left(self):
        noise = X_T - 0.6 * X0
        found = step("ratio_rms")
        torch.testing.assert_close(rms(found), rms(noise))
        torch.testing.assert_close(found / rms(found), step("rms"))

    def test_norm_is_the_gradient_of_the_residuals_norm(self):
        """For a loss |Ax - y|^2 / 2 that of |Ax - y|, by autograd."""
        mix, wanted = unit(3, 5, 12), unit(4, 2, 5)
        x = unit(5, 2, 3, 2, 2).requires_grad_()

        def residual():
            return x.flatten(1) @ mix.T - wanted

        (expected,) = torch.autograd.grad(residual().norm(dim=1).sum(), x)
        loss = residual().square().sum(dim=1) / 2
        (gradient,) = torch.autograd.grad(loss.sum(), x)
        found = unit_step("norm", gradient, loss.detach(), x.detach(), x.detach(), 0.5)
        torch.testing.assert_close(found, expected)

    def test_sign_moves_every_element_by_1(self):
        assert torch.equal(step("sign"), torch.where(GRADIENT > 0, 1.0, -1.0).double())

    def test_none_is_the_gradient(self):
        assert torch.equal(step("none"), GRADIENT)

    @pytest.mark.parametrize("form", FORMS)
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_no_gradient_is_no_step(self, form, dtype):
        gradient = GRADIENT.to(dtype, copy=True)
        gradient[1] = 0
        loss = LOSS.to(dtype)
        loss[1] = 0
        found = unit_step(form, gradient, loss, X_T.to(dtype), X0.to(dtype), 0.6)
        assert found.dtype == dtype
        assert not found[1].any()
        assert found[[0, 2, 3]].all()

    @pytest.mark.parametrize("form", FORMS)
    def test_an_image_is_stepped_by_itself(self, form):
        together = step(form)
        for k in range(4):
            one = slice(k, k + 1)
            alone = unit_step(form, GRADIENT[one], LOSS[one], X_T[one], X0[one], 0.6)
            torch.testing.assert_close(alone, together[one], rtol=1e-12, atol=0)

    @pytest.mark.parametrize("form", ["rms", "ratio_rms", "sign"])
    @pytest.mark.parametrize("factor", [1e-12, 1e12])
    def test_the_size_of_the_loss_does_not_matter(self, form, factor):
        found = unit_step(form, factor * GRADIENT.float(), LOSS, X_T.float(), X0.float(), 0.6)
        torch.testing.assert_close(found, step(form).float())

    def test_another_form_is_refused(self):
        with pytest.raises(ValueError, match="form 'adam' is not one of rms, ratio_rms, norm"):
            step("adam")


class TestConstraint:
    @pytest.mark.parametrize("form", ["rms", "ratio_rms"])
    def test_a_region_is_moved_as_far_as_a_whole_sample_would_be_and_nothing_else_is(self, form):
        region = torch.zeros(1, 1, 6, 5)
        region[..., :2] = 1
        found = Constraint(Plain(region=region), 0.7, form).step(GRADIENT, LOSS, X_T, X0, 0.6)
        assert bool((found[..., 2:] == 0).all())
        alone = (X_T - 0.6 * X0) if form == "ratio_rms" else torch.ones_like(X0)
        torch.testing.assert_close(rms(found[..., :2]), 0.7 * rms(alone))

    def test_a_region_of_all_is_none(self):
        whole = Constraint(Plain(region=torch.ones(1, 1, 6, 5)), 0.7)
        found = whole.step(GRADIENT, LOSS, X_T, X0, 0.6)
        torch.testing.assert_close(
            found, Constraint(Plain(), 0.7).step(GRADIENT, LOSS, X_T, X0, 0.6)
        )

    def test_scale_and_unit_make_the_length(self):
        loss = Plain(unit=0.3)
        given = (GRADIENT, LOSS, X_T, X0, 0.6)
        for form, length in (("rms", 0.6), ("sign", 0.6), ("norm", 2.0), ("none", 2.0)):
            found = Constraint(loss, 2.0, form).step(*given)
            torch.testing.assert_close(found, length * step(form))

    def test_it_acts_above_its_end(self):
        acting = Constraint(Plain(until=0.4))
        assert [acting.acts(t) for t in (0.3, 0.4, 0.41, 1.0)] == [False, False, True, True]
        stated = Constraint(Plain(until=0.4), until=0.8)
        assert [stated.acts(t) for t in (0.41, 0.8, 0.81)] == [False, False, True]
        assert Constraint(Plain(until=0.4), until=0.0).acts(0.1)

    def test_scale_0_never_acts(self):
        assert not Constraint(Plain(), 0.0).acts(1.0)

    @pytest.mark.parametrize("scale", [-1.0, math.inf, math.nan, "2", None])
    def test_a_scale_out_of_range_is_refused(self, scale):
        with pytest.raises(ValueError, match="scale must be 0 or more, and finite"):
            Constraint(Plain(), scale)

    def test_a_form_there_is_not_is_refused_at_once(self):
        with pytest.raises(ValueError, match=r"form must be one of \('rms', .*, not 'adam'"):
            Constraint(Plain(), form="adam")

    @pytest.mark.parametrize("until", [-0.1, 1.1, math.nan])
    def test_an_end_out_of_range_is_refused(self, until):
        with pytest.raises(ValueError, match=r"until must lie in \[0, 1\]"):
            Constraint(Plain(), until=until)


def released_step(scale: float, gradient, eps, x_t) -> torch.Tensor:
    """What the released LaCon adds to the noise prediction, of one image."""
    return scale * gradient * (eps - x_t).norm() / gradient.norm()


def stable_diffusion_levels(timestep: int) -> tuple[float, float]:
    """alpha and sigma of its chain: 1000 betas, evenly spaced in their roots."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    abar = float((1 - betas).cumprod(0)[timestep])
    return abar**0.5, (1 - abar) ** 0.5


@pytest.mark.parametrize(
    ("timestep", "share"),
    [(981, 1.0), (900, 0.995), (800, 0.985), (700, 0.97), (600, 0.935), (500, 0.885)],
)
def test_lacons_step_is_of_nearly_constant_size_on_x0(timestep, share):
    """k(t) of docs/lacon.md, and that the released step is ours times k(t)."""
    alpha, sigma = stable_diffusion_levels(timestep)
    k = sigma / alpha * math.hypot(1 - sigma, alpha)
    assert k == pytest.approx(share, abs=0.006)
    x0, eps, gradient = (unit(seed, 1, 4, 64, 64) for seed in range(3))
    x_t = alpha * x0 + sigma * eps
    moved = gaussian.x0_from_eps(x_t, eps + released_step(2.0, gradient, eps, x_t), alpha, sigma)
    ours = Constraint(Plain(), 2.0).step(gradient, torch.ones(1), x_t, x0, alpha)
    torch.testing.assert_close(x0 - moved, k * ours, rtol=0.02, atol=0)

"""Losses on x0 itself, which a full step meets exactly."""

from dataclasses import dataclass

import pytest
import torch

from diffgen import DiffGenPipeline
from diffgen.guidance import Constraint
from diffgen.guidance.late import Loss
from diffgen.lacon.conditions import PALETTE
from diffgen.lacon.losses import Inpaint, LowResolution
from diffgen.sampling.schedulers import build_scheduler
from tests.aligners import maps, pictures
from tests.late import SOLVERS, pipe_of
from tests.tiny import build, draw

# diffusers hands a tensor to numpy the old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@dataclass(frozen=True)
class Bright(Loss):
    """A user's own loss: the picture's mean is to be ``mean``."""

    mean: float

    def __call__(self, seen):
        count = seen.x0[0].numel()
        return (seen.x0.mean(dim=(1, 2, 3)) - self.mean).square() * count / 2


class TestExactConditions:
    """Form ``none`` at scale 1 projects: the last x0, which is the picture, meets the condition."""

    @pytest.mark.parametrize("solver", SOLVERS)
    @pytest.mark.parametrize("steps", [3, 20])
    def test_low_resolution(self, solver, steps):
        pipe, wanted = pipe_of(solver), maps(PALETTE, 3, (4, 4))
        exact = [Constraint(LowResolution(wanted), form="none")]
        found = draw(pipe, constraints=exact, num_inference_steps=steps)
        means = torch.nn.functional.avg_pool2d(found, 2)
        torch.testing.assert_close(means, wanted, rtol=0, atol=1e-5)
        assert (found - wanted.repeat_interleave(2, 2).repeat_interleave(2, 3)).std() > 0.01

    @pytest.mark.parametrize("solver", SOLVERS)
    def test_inpainting(self, solver):
        pipe, wanted = pipe_of(solver), maps(PALETTE, 3, (8, 8))
        known = torch.zeros(1, 1, 8, 8)
        known[..., :5] = 1
        exact = [Constraint(Inpaint(wanted, known), form="none")]
        found = draw(pipe, constraints=exact)
        torch.testing.assert_close(found[..., :5], wanted[..., :5], rtol=0, atol=1e-5)
        free = draw(pipe)
        assert not torch.allclose(found[..., 5:], free[..., 5:], atol=1e-2)
        assert not torch.allclose(found[..., 5:], wanted[..., 5:], atol=1e-1)

    def test_one_condition_after_another(self):
        """Both hold where they agree, though each alone would move the same pixels."""
        pipe, picture = build(), pictures(3, (8, 8), seed=9)
        known = torch.zeros(1, 1, 8, 8)
        known[..., :4] = 1
        small = torch.nn.functional.avg_pool2d(picture, 2)
        both = [
            Constraint(Inpaint(picture, known), form="none"),
            Constraint(LowResolution(small), form="none"),
        ]
        for order in (both, both[::-1]):
            found = draw(pipe, constraints=order)
            torch.testing.assert_close(found[..., :4], picture[..., :4], rtol=0, atol=1e-5)
            means = torch.nn.functional.avg_pool2d(found, 2)
            torch.testing.assert_close(means, small, rtol=0, atol=1e-5)

    def test_the_model_is_not_gone_back_through(self):
        model = build().transformer
        passes = []
        model.register_forward_hook(lambda *_: passes.append(torch.is_grad_enabled()))
        pipe = DiffGenPipeline(model, build_scheduler("euler"))
        pipe.set_progress_bar_config(disable=True)
        draw(pipe, constraints=[Constraint(LowResolution(torch.zeros(1, 3, 4, 4)), form="none")])
        assert passes == [False] * 4


def test_a_users_own_loss():
    found = draw(build(), constraints=[Constraint(Bright(0.5), form="none")])
    means = found.mean(dim=(1, 2, 3))
    torch.testing.assert_close(means, torch.full((3,), 0.5), rtol=0, atol=1e-5)


class Whole(Loss):
    """One number for the whole batch, which would tie its images together."""

    def __call__(self, seen):
        return seen.x0.square().sum()


class Blind(Loss):
    """Does not depend on the image."""

    def __call__(self, seen):
        return torch.ones(len(seen.x0))


@pytest.mark.parametrize("loss", [Whole(), Blind()])
def test_a_loss_that_is_not_of_each_image_is_refused(loss):
    with pytest.raises(ValueError, match=f"{type(loss).__name__} is to give a differentiable"):
        draw(build(), constraints=[Constraint(loss, 0.1)])


def test_constraints_may_come_from_a_generator():
    given = [Constraint(Bright(0.5), form="none")]
    pictures_of = (draw(build(), constraints=c) for c in (given, (one for one in given)))
    assert torch.equal(*pictures_of)

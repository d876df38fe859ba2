"""Drawing at other sizes than trained: shifted noise levels, and positions drawn by image."""

import math

import pytest
import torch

from diffgen.errors import UserError
from diffgen.sampling.schedulers import build_scheduler, flow_sigmas, set_steps, size_shift
from tests.tiny import build, draw

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def test_the_shift_is_the_root_of_the_ratio_of_areas():
    assert size_shift("sqrt", (64, 64), (32, 32)) == 2
    assert size_shift("sqrt", (32, 64), (32, 32)) == pytest.approx(math.sqrt(2))
    assert size_shift("sqrt", (32, 32), (32, 32)) == 1
    assert size_shift("none", (64, 64), (32, 32)) == 1


@pytest.mark.parametrize("name", ["euler", "heun", "dpmpp"])
@pytest.mark.parametrize("own", [1.0, 3.0])
def test_it_multiplies_the_schedulers_own(name, own):
    """sigma' = s sigma / (1 + (s - 1) sigma): one shift after another is their product."""
    scheduler, other = build_scheduler(name, own), build_scheduler(name, 2 * own)
    set_steps(scheduler, 5, "cpu", shift=2.0)
    set_steps(other, 5, "cpu")
    torch.testing.assert_close(scheduler.sigmas, other.sigmas)
    torch.testing.assert_close(scheduler.timesteps, other.timesteps)
    levels = scheduler.sigmas.unique(sorted=True).flip(0)[:-1]
    torch.testing.assert_close(levels, flow_sigmas(5, 2 * own), rtol=1e-5, atol=1e-6)


def test_a_pipeline_shifts_by_the_size_it_draws():
    pipe = build(position={"kind": "sincos"})
    at_trained, shifted = draw(pipe), draw(pipe, time_shift="sqrt")
    assert torch.equal(at_trained, shifted)
    plain, shifted = (draw(pipe, height=16, time_shift=shift) for shift in ("none", "sqrt"))
    assert (plain - shifted).abs().max() > 1e-4
    pipe.scheduler = build_scheduler("euler", math.sqrt(2))
    torch.testing.assert_close(draw(pipe, height=16), shifted)
    with pytest.raises(ValueError, match="time_shift 'log'"):
        draw(pipe, time_shift="log")


def test_a_chain_has_no_levels_to_shift():
    from diffgen.config.process import DDPMConfig

    with pytest.raises(UserError, match="only a flow's"):
        set_steps(build_scheduler("ddim", process=DDPMConfig()), 5, "cpu", shift=2.0)


RANDOM = {"kind": "rpe2d", "inference": "random"}


def test_random_positions_belong_to_the_image_whatever_the_batch():
    pipe = build(position=RANDOM)
    together = draw(pipe, (0, 1, 2), height=12)
    for k in range(3):
        alone = draw(pipe, (k,), height=12, image_numbers=[k])
        torch.testing.assert_close(alone[0], together[k], rtol=0, atol=1e-4)
    assert torch.equal(draw(pipe, (0, 1, 2), height=12), together)


def test_fixed_positions_differ_from_random_ones_and_need_no_seed():
    random, fixed = build(position=RANDOM), build(position={"kind": "rpe2d"})
    latents = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    same = [draw(fixed, seed=None, latents=latents) for _ in range(2)]
    assert torch.equal(*same)
    torch.manual_seed(0)
    one, other = (draw(random, seed=None, latents=latents) for _ in range(2))
    assert (one - same[0]).abs().max() > 1e-4
    assert (one - other).abs().max() > 1e-4
    torch.manual_seed(0)
    assert torch.equal(draw(random, seed=None, latents=latents), one)


def test_each_image_has_the_same_positions_at_every_step_and_in_both_passes():
    pipe, seen = build(position=RANDOM), []
    place = pipe.transformer.encoding.place

    def noting(coords, sizes, generator):
        seen.append(place(coords, sizes, generator))
        return seen[-1]

    pipe.transformer.encoding.place = noting
    draw(pipe, (0, 1), guidance_scale=3.0)
    assert len(seen) == 4
    assert all(torch.equal(one, seen[0]) for one in seen)
    cond, uncond = seen[0].chunk(2)
    assert torch.equal(cond, uncond)
    assert not torch.equal(cond[0], cond[1])


def test_sizes_over_the_range_are_refused():
    with pytest.raises(ValueError, match="10x4 tokens exceeds the 8x8"):
        draw(build(position={"kind": "rpe2d"}), height=20)


def test_random_positions_follow_a_generator_too():
    pipe = build(position=RANDOM)

    def drawn(seed: int) -> torch.Tensor:
        return draw(pipe, seed=None, generator=torch.Generator().manual_seed(seed))

    one, other = drawn(3), drawn(4)
    torch.randn(5)
    assert torch.equal(drawn(3), one)
    assert (one - other).abs().max() > 1e-3
    each = [[torch.Generator().manual_seed(k) for k in (7, 8, 9)] for _ in range(2)]
    assert torch.equal(*(draw(pipe, seed=None, generator=one) for one in each))

"""Published noise schedules and respacings."""

import itertools
import math

import pytest
import torch
from diffusers import DDPMScheduler

from diffgen.processes.schedule import (
    alpha_bar,
    cosine_betas,
    linear_betas,
    sampling_steps,
    space_timesteps,
)


def test_the_linear_schedule_as_published():
    """Ho et al. 2020, sec. 4: 1e-4 to 0.02, and the end is noise up to about 1e-5 bits."""
    betas = linear_betas(1000)
    assert betas.tolist()[::999] == pytest.approx([1e-4, 0.02])
    assert betas.diff().std() < 1e-15
    abar = alpha_bar(betas)
    assert abar[0] == 1
    assert abar[1000].item() == pytest.approx(4.0358e-5, rel=1e-4)


@pytest.mark.parametrize("steps", [1000, 4000, 50])
def test_the_linear_schedule_ends_at_noise_at_any_length(steps):
    end = alpha_bar(linear_betas(steps))[-1]
    assert 1e-6 < end < 1e-4


@pytest.mark.parametrize("steps", [1000, 4000, 50])
def test_the_cosine_schedule_as_published(steps):
    """Nichol and Dhariwal 2021, eq. 17, and 1e-3 left at the last step, whose beta is clipped."""

    def f(t):
        return math.cos((t / steps + 0.008) / 1.008 * math.pi / 2) ** 2

    betas = cosine_betas(steps)
    expected = [f(t) / f(0) for t in range(steps)]
    assert alpha_bar(betas)[:-1].tolist() == pytest.approx(expected, rel=1e-9)
    assert betas[-1] == betas.max() == 0.999
    if steps == 4000:  # the offset 0.008 was chosen for the first beta to be below a pixel's bin
        assert betas[0].sqrt() < 1 / 127.5


@pytest.mark.parametrize("steps", [1000, 40])
def test_the_betas_are_those_of_diffusers(steps):
    scale = 1000 / steps
    ends = {"beta_start": 1e-4 * scale, "beta_end": 0.02 * scale}
    linear = DDPMScheduler(steps, beta_schedule="linear", **ends)
    cosine = DDPMScheduler(steps, beta_schedule="squaredcos_cap_v2")
    for own, theirs in ((linear_betas, linear), (cosine_betas, cosine)):
        torch.testing.assert_close(own(steps).float(), theirs.betas, rtol=1e-6, atol=1e-8)


def test_respacing_by_sections_as_published():
    """The example of the released code: 300 steps, of each hundred 10, 15 and 20."""
    kept = space_timesteps(300, [10, 15, 20])
    assert kept[:10] == list(range(0, 100, 11))
    sections = [[k for k in kept if k // 100 == i] for i in range(3)]
    assert [len(section) for section in sections] == [10, 15, 20]
    assert [(s[0], s[-1]) for s in sections] == [(0, 99), (100, 199), (200, 299)]


def test_respacing_evenly():
    kept = space_timesteps(1000, [250])
    assert (kept[0], kept[-1], len(set(kept))) == (0, 999, 250)
    assert {b - a for a, b in itertools.pairwise(kept)} == {4, 5}
    assert space_timesteps(1000, [10]) == list(range(0, 1000, 111))
    assert space_timesteps(7, [7]) == list(range(7))
    assert space_timesteps(10, [1, 1, 1]) == [0, 4, 7]  # sections of 4, 3 and 3 steps
    with pytest.raises(ValueError, match="a section of 5 steps cannot keep 6"):
        space_timesteps(10, [5, 6])


def test_sampling_starts_at_noise_and_repeats_no_step():
    for count in range(1, 1001):
        steps = sampling_steps(1000, count, "trailing")
        assert len(steps) == count
        assert steps[0] == 999
        assert steps[-1] >= 0
        assert all(a > b for a, b in itertools.pairwise(steps))
        # Every step is useful: even the last one removes an equal share of the chain.
        assert abs(steps[-1] + 1 - 1000 / count) <= 0.5


def test_the_grids_of_table_2():
    """Lin et al. 2024, table 2: 10 of 1000 steps, which the paper counts from 1."""
    grids = {name: sampling_steps(1000, 10, name) for name in ("trailing", "linspace", "leading")}
    assert [k + 1 for k in grids["trailing"]] == list(range(1000, 0, -100))
    assert [k + 1 for k in grids["linspace"]] == [1000, 889, 778, 667, 556, 445, 334, 223, 112, 1]
    assert [k + 1 for k in grids["leading"]] == list(range(901, 0, -100))
    with pytest.raises(ValueError, match="timestep_spacing 'even'"):
        sampling_steps(1000, 10, "even")

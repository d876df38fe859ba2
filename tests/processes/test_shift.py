"""The time a distilled model is told: the released grids, and x0 read with that time's levels."""

import pytest
import torch
from torch import nn

from diffgen.config.model import TimeConvention
from diffgen.config.process import DDPMConfig
from diffgen.processes import DDPM, Flow
from diffgen.processes.shift import denoise_shifted, shifted

CHAIN = DDPM(TimeConvention(), "eps", DDPMConfig())
FLOW = Flow(TimeConvention(scale=1))
RELEASED = {0.25: [249, 187, 124, 62], 0.5: [499, 374, 249, 124], 1.0: [999, 749, 499, 249]}


class Noting(nn.Module):
    """Answers 1 everywhere, and notes the times it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(()))

    def forward(self, x, t, y):
        self.times = t
        return torch.ones_like(x)


@pytest.mark.parametrize(("shift", "steps"), RELEASED.items())
def test_a_chains_steps_become_those_of_the_released_grids(shift, steps):
    """NitroSD-Realism's S is 250 of 1000, NitroSD-Vibrant's 500."""
    t = (torch.tensor([999, 749, 499, 249]) + 1) / 1000
    assert (CHAIN.index(shifted(CHAIN, t, shift)) - 1).tolist() == steps


def test_a_step_whose_share_is_whole_is_that_step():
    """In floating point 0.29 * 100 is below 29."""
    t = torch.tensor([101]) / 1000
    assert (CHAIN.index(shifted(CHAIN, t, 0.29)) - 1).tolist() == [29]


def test_a_flows_time_is_scaled_and_1_changes_nothing():
    t = torch.tensor([1.0, 0.75, 0.5])
    assert shifted(FLOW, t, 0.5).tolist() == [0.5, 0.375, 0.25]
    for process in (FLOW, CHAIN):
        assert torch.equal(shifted(process, t, 1.0), t)


@pytest.mark.parametrize("shift", [0.0, -0.5, 1.5])
def test_a_shift_out_of_range_is_refused(shift):
    with pytest.raises(ValueError, match="timestep_shift must be above 0 and up to 1"):
        shifted(FLOW, torch.ones(1), shift)


def test_a_chains_x0_is_read_with_the_levels_of_the_time_that_is_told():
    """(x - sigma' eps) / alpha' of step 249, where alpha of step 999 is 0.006."""
    x, t, y, model = torch.full((1, 1, 2, 2), 3.0), torch.ones(1), torch.zeros(1), Noting()
    x0 = denoise_shifted(CHAIN, model, x, t, y, 0.25).x0
    abar = CHAIN.alpha_bar[250]
    expected = (3 - (1 - abar).sqrt()) / abar.sqrt()
    assert model.times.tolist() == [249]
    assert x0.flatten().tolist() == pytest.approx([float(expected)] * 4, rel=1e-6)


def test_a_flows_x0_is_what_is_left_after_the_shifted_time():
    """x - S t v."""
    x, t, y, model = torch.full((1, 1, 2, 2), 3.0), torch.ones(1), torch.zeros(1), Noting()
    x0 = denoise_shifted(FLOW, model, x, t, y, 0.25).x0
    assert model.times.tolist() == [0.25]
    assert x0.flatten().tolist() == [2.75] * 4

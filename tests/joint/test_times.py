"""Training times of an image and of its condition."""

import pytest
import torch

from diffgen.config.joint import CorrelatedTimes, IndependentTimes
from diffgen.config.model import TimeConvention
from diffgen.config.process import DDPMConfig, UniformTimes
from diffgen.joint.times import draw_times
from diffgen.processes import DDPM, Flow
from diffgen.seeding import stream_generator

COUNT = 4000
FLOW = Flow(TimeConvention())
CHAIN = DDPM(TimeConvention(), config=DDPMConfig(num_train_timesteps=25))


def drawn(config, process=FLOW) -> torch.Tensor:
    """(COUNT, 2), each of a number of its own."""
    generators = (stream_generator(0, "joint", number) for number in range(COUNT))
    return torch.stack([draw_times(config, process, generator) for generator in generators])


def test_independent_times_are_uniform_and_one_of_both_is_clean_in_the_share_asked_for():
    t = drawn(IndependentTimes(uniform=1, clean=0.4))
    clean = t == 0
    assert not clean.all(dim=1).any()
    assert clean.float().mean(dim=0).tolist() == pytest.approx([0.2, 0.2], abs=0.02)
    both = t[~clean.any(dim=1)]
    for k in range(4):
        inside = (both > k / 4) & (both <= (k + 1) / 4)
        assert inside.float().mean(dim=0).tolist() == pytest.approx([0.25, 0.25], abs=0.03)
    assert abs(float(torch.corrcoef(both.T)[0, 1])) < 0.05


def test_an_images_time_may_be_drawn_as_its_models_training_draws_it():
    logits = drawn(IndependentTimes(uniform=0, clean=0)).logit()
    assert float(logits[:, 0].mean()) == pytest.approx(0.8, abs=0.06)
    assert float(logits[:, 0].std()) == pytest.approx(1.0, abs=0.04)
    assert float(logits[:, 1].mean()) == pytest.approx(0.0, abs=0.1)
    assert abs(float(torch.corrcoef(logits.T)[0, 1])) < 0.05


def test_as_published_none_is_clean_and_of_a_given_one_the_other_always_is():
    assert (drawn(IndependentTimes(clean=0)) > 0).all()
    assert ((drawn(IndependentTimes(clean=1)) == 0).sum(dim=1) == 1).all()


def test_correlated_times_are_the_same_in_half_of_the_pairs_else_one_is_small():
    process = Flow(TimeConvention(), times=UniformTimes())
    t = drawn(CorrelatedTimes(), process)
    same = t[:, 0] == t[:, 1]
    assert float(same.float().mean()) == pytest.approx(0.5, abs=0.03)
    smaller = t[~same].mean(dim=0)  # half of each is uniform, half the square of a uniform one
    assert smaller.tolist() == pytest.approx([5 / 12, 5 / 12], abs=0.02)
    assert float(torch.corrcoef(t[~same].T)[0, 1]) < 0


@pytest.mark.parametrize("config", [IndependentTimes(), CorrelatedTimes()])
def test_times_of_a_chain_are_those_of_its_steps(config):
    t = drawn(config, CHAIN)
    steps = CHAIN.index(t)
    assert torch.equal(t, steps / 25)
    assert set(steps.flatten().tolist()) - {0} == set(range(1, 26))
    assert (steps == 0).any() == isinstance(config, IndependentTimes)

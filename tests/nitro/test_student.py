"""How the student is called: the times it is told, and what its earlier calls leave it."""

import pytest
import torch

from diffgen.config.process import DDPMConfig
from diffgen.processes import DDPM
from diffgen.sampling.noise import position_seeds
from diffgen.seeding import stream_generator
from tests.nitro.made import calls, student_of, teacher
from tests.tiny import build

NOISE = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
Y, NUMBERS = torch.tensor([0, 2]), [7, 8]


def times_told(model) -> list:
    """Filled with what the model is told at each call, and whether gradients are wanted."""
    told = []
    model.t_embedder.register_forward_pre_hook(
        lambda _, args: told.append((args[0].tolist(), torch.is_grad_enabled()))
    )
    return told


def test_a_ddpm_student_of_eps_is_told_step_249_at_pure_noise_and_read_there():
    model = build(sample_size=(16, 16), prediction="eps").transformer
    told = times_told(model)
    x0 = calls(model, DDPMConfig(), shift=0.25)(model, NOISE, torch.ones(2), Y, None)
    assert [times for times, _ in told] == [[249, 249]]
    chain = DDPM(model.convention, "eps", DDPMConfig())
    alpha, sigma = chain.levels(torch.tensor(0.25))
    with torch.no_grad():
        eps = model(NOISE, torch.tensor([249.0, 249.0]), Y)
    torch.testing.assert_close(x0.detach(), (NOISE - sigma * eps) / alpha, rtol=1e-4, atol=1e-5)
    assert alpha > 0.5  # that of step 999 is 0.006


def test_a_flow_students_time_is_scaled_and_1_leaves_it():
    model = student_of(teacher())
    told = times_told(model)
    for shift in (1.0, 0.5):
        calls(model, shift=shift)(model, NOISE, torch.ones(2), Y, None)
    assert [times for times, _ in told] == [[1000, 1000], [500, 500]]


@pytest.mark.parametrize(("steps", "times"), [(1, [1]), (2, [1, 0.5]), (4, [1, 0.75, 0.5, 0.25])])
def test_the_times_of_a_course(steps, times):
    assert calls(teacher()).times(steps) == times


def test_the_first_call_meets_the_noise_itself():
    model = student_of(teacher())
    x_t, t = calls(model).arrive(model, NOISE, Y, NUMBERS, steps=4, call=0)
    assert torch.equal(x_t, NOISE)
    assert t.tolist() == [1, 1]


@pytest.mark.parametrize("config", [None, DDPMConfig()], ids=["flow", "ddpm"])
def test_a_later_call_meets_the_x0_of_those_before_noised_anew(config):
    """By hand: x0 of the noise, noise of (seed, step0, number) to 3/4, x0 again, to 1/2."""
    model = build(sample_size=(16, 16), prediction="x0").transformer
    student = calls(model, config)
    x_t, t = student.arrive(model, NOISE, Y, NUMBERS, steps=4, call=2)
    assert t.tolist() == [0.5, 0.5]
    expected = NOISE
    for k, (now, then) in enumerate([(1.0, 0.75), (0.75, 0.5)]):
        with torch.no_grad():
            own = student.process.own_time(torch.tensor([now, now]))
            x0 = model(expected, own, Y)
        eps = torch.stack(
            [torch.randn(3, 16, 16, generator=stream_generator(5, f"step{k}", n)) for n in NUMBERS]
        )
        alpha, sigma = student.process.levels(torch.tensor(then))
        expected = alpha * x0 + sigma * eps
    torch.testing.assert_close(x_t, expected, rtol=1e-4, atol=1e-5)


def test_earlier_calls_leave_no_gradient():
    model = student_of(teacher())
    student, told = calls(model), times_told(model)
    x_t, t = student.arrive(model, NOISE, Y, NUMBERS, steps=4, call=3)
    assert not x_t.requires_grad
    x0 = student(model, x_t, t, Y, None)
    assert x0.requires_grad
    assert [wanted for _, wanted in told] == [False, False, False, True]
    assert [times[0] for times, _ in told] == [1000, 750, 500, 250]


def test_what_a_sample_arrives_at_does_not_hang_on_its_batch():
    model = student_of(teacher())
    arrive = calls(model).arrive
    both, _ = arrive(model, NOISE, Y, NUMBERS, 2, 1)
    alone, _ = arrive(model, NOISE[1:], Y[1:], NUMBERS[1:], 2, 1)
    torch.testing.assert_close(both[1:], alone, rtol=0, atol=1e-5)


def test_positions_are_drawn_by_number_where_the_encoding_draws_any():
    assert calls(teacher()).seeds(NUMBERS) is None
    model = student_of(teacher(position={"kind": "rpe2d", "inference": "random"}))
    student = calls(model)
    seeds = student.seeds(NUMBERS)
    assert seeds == position_seeds(NUMBERS, 5)
    both, again = (student(model, NOISE, torch.ones(2), Y, seeds) for _ in range(2))
    assert torch.equal(both, again)
    other = student(model, NOISE, torch.ones(2), Y, student.seeds([7, 9]))
    assert torch.equal(both[0], other[0])
    assert not torch.allclose(both[1], other[1], atol=1e-3)

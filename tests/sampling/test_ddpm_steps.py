"""DDPM solvers: n steps are n useful ones, and a perfect denoiser gives the data's distribution."""

import itertools
import math
from dataclasses import dataclass

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
)
from torch import Tensor, nn

from diffgen.config.model import TimeConvention
from diffgen.config.process import DDPMConfig
from diffgen.errors import UserError
from diffgen.guidance import CFG
from diffgen.processes import DDPM
from diffgen.processes import gaussian as g
from diffgen.sampling.ddpm_steps import held_levels
from diffgen.sampling.guided import Denoiser, GuidedDenoiser
from diffgen.sampling.schedulers import build_scheduler, set_steps
from diffgen.sampling.walk import walk

# diffusers hands a tensor to numpy the old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SOLVERS = ("ddim", "ddpm", "dpmpp")
MEAN, STD = 0.7, 0.4


class Gaussian(nn.Module):
    """The exact x0 for data N(MEAN, STD^2), and with ``learned`` the exact variance of a step.

    E[x0 | x_t] = m + alpha s^2 / (alpha^2 s^2 + sigma^2) (x_t - alpha m). Notes the steps and its
    answers.
    """

    def __init__(self, process: DDPM) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(()))
        self.process = process
        self.steps: list[int] = []

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        count = self.process.config.num_train_timesteps
        step = round(t[0].item() * count / 1000)
        self.steps.append(step)
        abar_t, abar_s = self.process.alpha_bar[step + 1], self.process.alpha_bar[step]
        total = abar_t * STD**2 + 1 - abar_t
        self.answer = (MEAN + abar_t.sqrt() * STD**2 / total * (x - abar_t.sqrt() * MEAN)).float()
        if not self.process.config.learned_variance:
            return self.answer
        smallest, largest = g.posterior_variance(abar_t, abar_s), g.step_beta(abar_t, abar_s)
        from_x0 = abar_s.sqrt() * largest / (1 - abar_t)
        exact = smallest + from_x0**2 * STD**2 * (1 - abar_t) / total
        share = (exact.log() - smallest.log()) / (largest.log() - smallest.log())
        raw = 2 * share - 1 if step else torch.zeros(())  # the last step adds no noise
        return torch.cat([self.answer, raw.float().expand_as(x)], dim=1)


def chain(**options) -> DDPM:
    return DDPM(TimeConvention(), "x0", DDPMConfig(**options))


def solve(name: str, process: DDPM, count: int, noise: Tensor, spacing: str = "trailing"):
    """What ``noise`` was walked to, and the model that was asked."""
    scheduler = build_scheduler(name, process=process.config)
    scheduler = type(scheduler).from_config(scheduler.config, timestep_spacing=spacing)
    set_steps(scheduler, count, "cpu")
    model, labels = Gaussian(process), torch.zeros(len(noise), dtype=torch.long)
    generator = torch.Generator().manual_seed(1)
    return walk(
        Denoiser(model, process), scheduler, CFG(1.0), noise, labels, 0, generator=generator
    ), model


def unit(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("betas", ["linear", "cosine"])
@pytest.mark.parametrize("count", [1, 2, 7, 1000])
@pytest.mark.parametrize("name", SOLVERS)
def test_n_steps_are_n_useful_evaluations_from_noise_to_the_image(name, count, betas):
    out, model = solve(name, chain(betas=betas), count, unit(1, 1, 2, 2))
    assert model.steps == [round(1000 * k / count) - 1 for k in range(count, 0, -1)]
    assert len(set(model.steps)) == count
    assert model.steps[0] == 999
    torch.testing.assert_close(out, model.answer, rtol=0, atol=2e-6)  # the last x0, no noise on it


@pytest.mark.parametrize("spacing", ["linspace", "leading"])
@pytest.mark.parametrize("name", SOLVERS)
def test_other_spacings_are_walked_too(name, spacing):
    out, model = solve(name, chain(), 10, unit(1, 1, 2, 2), spacing)
    stride = {"linspace": 111, "leading": 100}[spacing]
    assert model.steps == [stride * k for k in range(9, -1, -1)]
    torch.testing.assert_close(out, model.answer, rtol=0, atol=2e-6)


@pytest.mark.parametrize("name", SOLVERS)
def test_a_scheduler_can_be_used_again_with_another_count(name):
    process = chain()
    scheduler, noise = build_scheduler(name, process=process.config), unit(1, 1, 2, 2)
    results = []
    for count in (5, 3, 5):
        set_steps(scheduler, count, "cpu")
        generator = torch.Generator().manual_seed(1)
        labels = torch.zeros(1, dtype=torch.long)
        walked = walk(
            *(Denoiser(Gaussian(process), process), scheduler, CFG(1.0), noise, labels, 0),
            generator=generator,
        )
        results.append(walked)
    assert torch.equal(results[0], results[2])
    assert not torch.equal(results[0], results[1])


@pytest.mark.parametrize("betas", ["linear", "cosine"])
@pytest.mark.parametrize(("name", "order", "most"), [("ddim", 1, 0.03), ("dpmpp", 2, 1e-3)])
def test_ode_solvers_converge_to_the_exact_solution_at_their_order(name, order, most, betas):
    """The ODE keeps (x_t - alpha m) / std(x_t), at any count, also one that splits no chain."""
    noise = torch.linspace(-2, 2, 9).reshape(1, 1, 3, 3)
    process = chain(betas=betas, num_train_timesteps=20_000)
    end = process.alpha_bar[-1]
    z = (noise - end.sqrt() * MEAN) / (end * STD**2 + 1 - end).sqrt()
    errors = []
    for count in (20, 121):
        out, _ = solve(name, process, count, noise)
        errors.append((out - (MEAN + STD * z)).abs().max().item())
    assert errors[1] < most
    assert math.log(errors[0] / errors[1]) / math.log(121 / 20) > 0.9 * order


def test_ddim_agrees_with_dpm_solver_of_first_order():
    """Lu et al. 2022: DDIM is DPM-Solver++ of order 1; here on a grid of uneven strides."""
    process, noise = chain(), unit(1, 1, 4, 4)
    scheduler = build_scheduler("dpmpp", process=process.config)
    scheduler = DPMSolverMultistepScheduler.from_config(scheduler.config, solver_order=1)
    set_steps(scheduler, 7, "cpu")
    labels = torch.zeros(1, dtype=torch.long)
    expected = walk(Denoiser(Gaussian(process), process), scheduler, CFG(1.0), noise, labels, 0)
    torch.testing.assert_close(solve("ddim", process, 7, noise)[0], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("name", "count"), [("ddim", 500), ("dpmpp", 100), ("ddpm", 1000)])
def test_a_perfect_denoiser_gives_the_mean_and_variance_of_the_data(name, count):
    out, _ = solve(name, chain(), count, unit(4, 1, 50, 50))
    assert out.mean().item() == pytest.approx(MEAN, abs=5 * STD / 100)
    # Sampling error 0.7 %; fixed variances (beta~) leave out that of x0 and are a little narrow.
    assert out.std().item() == pytest.approx(STD, rel=0.03)


def test_ancestral_sampling_has_the_variance_its_steps_add_up_to():
    """Var x_s = slope^2 Var x_t + beta~ from each step of the grid to the next."""
    process, count = chain(), 7
    variance, grid = (
        torch.tensor(1.0, dtype=torch.float64),
        [round(1000 * k / count) for k in range(count, -1, -1)],
    )
    for t, s in itertools.pairwise(grid):
        abar_t, abar_s = process.alpha_bar[t], process.alpha_bar[s]
        gain = abar_t.sqrt() * STD**2 / (abar_t * STD**2 + 1 - abar_t)
        unit_x0 = g.posterior_mean(torch.zeros(()), torch.ones(()), abar_t, abar_s)
        unit_x_t = g.posterior_mean(torch.ones(()), torch.zeros(()), abar_t, abar_s)
        variance = (gain * unit_x0 + unit_x_t) ** 2 * variance
        variance = variance + g.posterior_variance(abar_t, abar_s)
    out, _ = solve("ddpm", process, count, unit(4, 1, 100, 100))
    assert out.var().item() == pytest.approx(variance.item(), rel=0.04)


def test_with_the_right_learned_variance_ancestral_sampling_is_exact():
    """However coarse the chain: every step draws from the true p(x_s | x_t)."""
    process = chain(num_train_timesteps=25, learned_variance=True)
    out, model = solve("ddpm", process, 25, unit(4, 1, 100, 100))
    torch.testing.assert_close(out, model.answer, rtol=0, atol=2e-6)  # no noise on the image
    assert out.mean().item() == pytest.approx(MEAN, abs=5 * STD / 200)
    assert out.std().item() == pytest.approx(STD, rel=5 / math.sqrt(2 * out.numel()))
    narrow, _ = solve("ddpm", chain(num_train_timesteps=25), 25, unit(4, 1, 100, 100))
    assert narrow.std() < 0.97 * STD


@pytest.mark.parametrize("name", ["ddim", "dpmpp"])
def test_solvers_without_noise_pass_a_learned_variance_over(name):
    noise = unit(1, 1, 2, 2)
    learned, _ = solve(name, chain(learned_variance=True), 5, noise)
    assert torch.equal(learned, solve(name, chain(), 5, noise)[0])


@pytest.mark.parametrize("order", [("cond", "uncond"), ("uncond", "cond")])
def test_guidance_passes_the_conditional_variance_through(order):
    class ByLabel(nn.Module):
        """x0 is the label, and so is the variance: -1 (label 0) is beta~, 1 (null) is beta."""

        def __init__(self) -> None:
            super().__init__()
            self.unused = nn.Parameter(torch.zeros(()))

        def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
            label = (2.0 * y - 1)[:, None, None, None].expand_as(x)
            return torch.cat([label, label], dim=1)

    @dataclass(frozen=True)
    class Ordered(CFG):
        def passes(self, level):
            return order

    process = chain(learned_variance=True)
    labels = torch.zeros(2, dtype=torch.long)
    denoise = GuidedDenoiser(Denoiser(ByLabel(), process), Ordered(3.0), labels, null_label=1)
    out = denoise(unit(2, 1, 2, 2), 0.6, advance=True, s=0.4)
    assert torch.equal(out.x0, torch.full((2, 1, 2, 2), -5.0))  # 1 + 3 (-1 - 1)
    abar = process.alpha_bar
    expected = g.posterior_variance(abar[600], abar[400]).log().float().expand(2, 1, 2, 2)
    torch.testing.assert_close(out.log_variance, expected)


def test_held_levels_move_at_the_grids_steps_alone():
    abar = torch.tensor([1.0, 0.9, 0.7, 0.5, 0.3, 0.1])
    assert held_levels(abar, [4, 1]).tolist() == pytest.approx([1, 0.7, 0.7, 0.7, 0.1])


@pytest.mark.parametrize("name", SOLVERS)
def test_more_steps_than_the_chain_has_are_refused(name):
    scheduler = build_scheduler(name, process=DDPMConfig(num_train_timesteps=50))
    with pytest.raises(UserError, match="steps: 51 is more than the model's 50 noise levels"):
        set_steps(scheduler, 51, "cpu")


def test_what_cannot_walk_a_ddpm_model_is_refused():
    for name in ("euler", "heun"):
        with pytest.raises(UserError, match=f"'{name}' is not one of ddim, ddpm, dpmpp"):
            build_scheduler(name, process=DDPMConfig())
    for scheduler in (
        DDIMScheduler(),
        DPMSolverMultistepScheduler(),
        DDPMScheduler(prediction_type="sample", variance_type="learned_range"),
    ):
        with pytest.raises(
            UserError, match=f"{type(scheduler).__name__} must have prediction_type"
        ):
            set_steps(scheduler, 4, "cpu")
    with pytest.raises(UserError, match="EulerDiscreteScheduler cannot walk a ddpm model"):
        set_steps(EulerDiscreteScheduler(), 4, "cpu")

"""n steps are n useful steps, and every solver solves the flow's ODE at its order."""

import itertools
import math

import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler
from torch import Tensor, nn

from diffgen.config.model import TimeConvention
from diffgen.errors import UserError
from diffgen.guidance import CFG
from diffgen.processes import Flow
from diffgen.sampling.guided import Denoiser
from diffgen.sampling.schedulers import build_scheduler, flow_sigmas, set_flow_sigmas
from diffgen.sampling.walk import walk

# diffusers hands a tensor to numpy the old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SOLVERS = ("euler", "heun", "dpmpp")
STEPS = (1, 2, 3, 5, 20)
SHIFTS = (1.0, 3.0)
MEAN, STD = 0.7, 0.4


class Gaussian(nn.Module):
    """The exact velocity for data N(MEAN, STD^2), in diffgen's terms; notes what it is asked.

    E[x0 | x_t] = m + (1 - t) s^2 / ((1 - t)^2 s^2 + t^2) (x_t - (1 - t) m).
    """

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(()))
        self.levels: list[float] = []

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        self.levels.append(t[0].item())
        t = t.double()[:, None, None, None]
        gain = (1 - t) * STD**2 / ((1 - t) ** 2 * STD**2 + t**2)
        x0 = MEAN + gain * (x - (1 - t) * MEAN)
        return ((x - x0) / t).float()


def solve(name: str, steps: int, shift: float = 1.0) -> tuple[Tensor, Tensor, list[float]]:
    """Noise, what it was walked to, and the noise levels the model was asked at."""
    noise = torch.linspace(-2, 2, 9).reshape(1, 1, 3, 3)
    model, scheduler = Gaussian(), build_scheduler(name, shift)
    set_flow_sigmas(scheduler, steps, "cpu")
    flow = Flow(TimeConvention(scale=1))
    labels = torch.zeros(1, dtype=torch.long)
    return noise, walk(Denoiser(model, flow), scheduler, CFG(1.0), noise, labels, 0), model.levels


def shifted(level: float, shift: float) -> float:
    return shift * level / (1 + (shift - 1) * level)


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("shift", SHIFTS)
def test_the_grid_is_equal_steps_from_1_to_1_over_n(steps, shift):
    expected = [shifted(k / steps, shift) for k in range(steps, 0, -1)]
    assert flow_sigmas(steps, shift).tolist() == pytest.approx(expected, abs=1e-7)
    assert flow_sigmas(steps, shift)[0] == 1


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("shift", SHIFTS)
@pytest.mark.parametrize("name", SOLVERS)
def test_every_scheduler_walks_the_grid_and_ends_at_zero(name, shift, steps):
    scheduler = build_scheduler(name, shift)
    set_flow_sigmas(scheduler, steps, "cpu")
    levels = list(dict.fromkeys(scheduler.sigmas.tolist()))  # Heun's grid has each level twice
    expected = [shifted(k / steps, shift) for k in range(steps, -1, -1)]
    assert levels == pytest.approx(expected, abs=1e-6)
    assert (levels[0], levels[-1]) == (1, 0)


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("shift", SHIFTS)
@pytest.mark.parametrize("name", SOLVERS)
def test_n_steps_are_n_useful_evaluations(name, shift, steps):
    """n of them (2 n - 1 for Heun), on the grid's own levels, none repeated in one stage."""
    levels = solve(name, steps, shift)[2]
    expected = [shifted(k / steps, shift) for k in range(steps, 0, -1)]
    if name == "heun":  # the second stage of a step lies where the next step begins
        assert len(levels) == 2 * steps - 1
        first, second = levels[::2], levels[1::2]
        assert second == pytest.approx(expected[1:], abs=1e-6)
    else:
        assert len(levels) == steps
        first = levels
    assert first == pytest.approx(expected, abs=1e-6)
    assert min(levels) >= 1 / steps - 1e-6
    gaps = [a - b for a, b in zip(first, [*first[1:], 0.0], strict=True)]
    assert min(gaps) > 0.2 / (steps * shift)  # no step that moves nothing


@pytest.mark.parametrize("name", SOLVERS)
def test_a_scheduler_can_be_used_again_with_another_count(name):
    scheduler, flow = build_scheduler(name), Flow(TimeConvention(scale=1))
    noise, labels = torch.ones(1, 1, 2, 2), torch.zeros(1, dtype=torch.long)
    results = []
    for steps in (4, 3, 4):
        set_flow_sigmas(scheduler, steps, "cpu")
        results.append(walk(Denoiser(Gaussian(), flow), scheduler, CFG(1.0), noise, labels, 0))
    assert torch.equal(results[0], results[2])
    assert not torch.equal(results[0], results[1])


@pytest.mark.parametrize("name", SOLVERS)
def test_one_step_is_the_denoiser_at_pure_noise(name):
    """Where x_t tells nothing: the mean of the data."""
    assert solve(name, 1)[1].flatten().tolist() == pytest.approx([MEAN] * 9, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "order", "steps"), [("euler", 1, 40), ("heun", 2, 40), ("dpmpp", 2, 160)]
)
def test_solvers_converge_to_the_exact_solution_at_their_order(name, order, steps):
    """The ODE keeps (x_t - (1 - t) m) / std(x_t), so noise z ends at m + s z.

    DPM-Solver++'s first two steps are of first order; only fine grids show its second.
    """
    errors = []
    for count in (steps, 2 * steps, 4 * steps):
        noise, out, _ = solve(name, count)
        errors.append((out - (MEAN + STD * noise)).abs().max().item())
    slopes = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
    assert errors[-1] < {1: 0.01, 2: 1e-3}[order]
    assert slopes == pytest.approx([order] * 2, abs=0.3)


@pytest.mark.parametrize(("name", "most"), [("euler", 0.015), ("heun", 1e-3), ("dpmpp", 4e-3)])
def test_a_shifted_grid_converges_too(name, most):
    noise, out, _ = solve(name, 200, shift=3.0)
    assert (out - (MEAN + STD * noise)).abs().max() < most


def test_what_cannot_walk_a_flow_is_refused():
    with pytest.raises(UserError, match=r"'eular' is not one of euler, heun, dpmpp"):
        build_scheduler("eular")
    for scheduler in (DDIMScheduler(), DPMSolverMultistepScheduler()):
        with pytest.raises(UserError, match=f"{type(scheduler).__name__} cannot walk a flow"):
            set_flow_sigmas(scheduler, 4, "cpu")

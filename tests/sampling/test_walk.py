"""The loop over a scheduler: one batch a step, guidance before the solver, stages told apart."""

from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor, nn

from diffgen.config.model import TimeConvention
from diffgen.guidance import CFG
from diffgen.processes import Flow
from diffgen.sampling.guided import Denoiser, GuidedDenoiser
from diffgen.sampling.schedulers import build_scheduler, set_flow_sigmas
from diffgen.sampling.walk import walk

# diffusers hands a tensor to numpy the old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

NULL = 3
FLOW = Flow(TimeConvention(scale=1))
NOISE = torch.randn(2, 1, 2, 3, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 2])


class Constant(nn.Module):
    """Believes every image of class y to be the constant (y + 1) / 10; notes its batches."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(()))
        self.calls: list[tuple[list[int], list[float]]] = []

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        self.calls.append((y.tolist(), t.tolist()))
        x0 = (y + 1)[:, None, None, None] / 10
        return (x - x0) / t[:, None, None, None]


@dataclass
class Noting:
    """A guidance run that writes down what it is told, and asks for what it was given."""

    wanted: tuple[str, ...] = ("cond",)
    levels: list[float] = field(default_factory=list)
    told: list[tuple[float, float, bool]] = field(default_factory=list)
    begun: int = 0

    def begin(self, raw="x0"):
        self.begun += 1
        return self

    def passes(self, level):
        self.levels.append(level)
        return self.wanted

    def __call__(self, cond, uncond, *, x_t=None, alpha=None, sigma=None, advance=True):
        assert x_t.shape == cond.shape
        assert (uncond is None) == ("uncond" not in self.wanted)
        self.told.append((alpha, sigma, advance))
        return cond


def ready(name: str, steps: int):
    scheduler = build_scheduler(name)
    set_flow_sigmas(scheduler, steps, "cpu")
    return scheduler


@pytest.mark.parametrize("name", ["euler", "heun", "dpmpp"])
@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_a_certain_model_is_followed_exactly(name, scale):
    """The velocity field points at one x0, straight lines: every solver lands on it."""
    out = walk(Denoiser(Constant(), FLOW), ready(name, 5), CFG(scale), NOISE, LABELS, NULL)
    cond, uncond = (LABELS + 1) / 10, (NULL + 1) / 10
    expected = (uncond + scale * (cond - uncond))[:, None, None, None].expand_as(NOISE)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("scale", "labels"), [(1.0, [0, 2]), (2.0, [0, 2, NULL, NULL]), (0.0, [0, 2, NULL, NULL])]
)
def test_the_passes_share_one_batch(scale, labels):
    model = Constant()
    walk(Denoiser(model, FLOW), ready("euler", 2), CFG(scale), NOISE, LABELS, NULL)
    assert [call[0] for call in model.calls] == [labels] * 2
    assert [call[1] for call in model.calls] == [[1.0] * len(labels), [0.5] * len(labels)]


def test_a_rule_is_told_its_noise_level_and_the_solvers_stages():
    """alpha + sigma = 1; the level is sigma / alpha; Heun's second stages do not advance."""
    rule = Noting()
    walk(Denoiser(Constant(), FLOW), ready("heun", 2), rule, NOISE, LABELS, NULL)
    assert rule.begun == 1
    assert rule.levels == [float("inf"), 1.0, 1.0]
    assert rule.told == [(0.0, 1.0, True), (0.5, 0.5, False), (0.5, 0.5, True)]


def test_the_order_a_rule_names_its_passes_in_does_not_matter():
    model, rule = Constant(), Noting(wanted=("uncond", "cond"))
    out = walk(Denoiser(model, FLOW), ready("euler", 2), rule, NOISE, LABELS, NULL)
    assert model.calls[0][0] == [NULL, NULL, 0, 2]
    torch.testing.assert_close(out[:, 0, 0, 0], (LABELS + 1) / 10, rtol=0, atol=1e-6)


def test_on_step_follows_every_evaluation():
    ticks = []
    walk(
        *(Denoiser(Constant(), FLOW), ready("heun", 3), CFG(1.0), NOISE, LABELS, NULL),
        on_step=lambda: ticks.append(1),
    )
    assert len(ticks) == 5


def test_images_of_a_batch_walk_alone_and_no_gradient_is_kept():
    together = walk(Denoiser(Constant(), FLOW), ready("dpmpp", 4), CFG(2.0), NOISE, LABELS, NULL)
    assert not together.requires_grad
    for k in range(2):
        noise, label = NOISE[k : k + 1], LABELS[k : k + 1]
        alone = walk(Denoiser(Constant(), FLOW), ready("dpmpp", 4), CFG(2.0), noise, label, NULL)
        torch.testing.assert_close(alone, together[k : k + 1], rtol=0, atol=1e-6)


def test_the_denoiser_alone():
    denoise = GuidedDenoiser(Denoiser(Constant(), FLOW), CFG(1.0).begin(), LABELS, NULL)
    x0 = denoise(NOISE, 0.25, advance=True).x0
    torch.testing.assert_close(x0[:, 0, 0, 0], (LABELS + 1) / 10, rtol=0, atol=1e-6)

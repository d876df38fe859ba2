"""Guidance of stacked branches, pass by pass."""

import pytest
import torch

from diffgen.config.model import TimeConvention
from diffgen.config.process import DDPMConfig
from diffgen.guidance import APG, CFG, AutoGuidance, Interval
from diffgen.joint.denoise import JointDenoiser
from diffgen.joint.stacked import Stacked
from diffgen.processes import DDPM, Flow
from diffgen.sampling.guided import Denoiser
from tests.adapters import RANDOM, adapter_of
from tests.tiny import build

B, NULL = 2, 3
LABELS = torch.tensor([0, 2])
TIMES, EARLIER = [0.75, 0.5, 0.25], [0.5, 0.25, 0.25]


def denoiser_of(**options) -> Denoiser:
    """Of a model three times as sensitive as the tiny one."""
    model = build(depth=2, position={"kind": "rope"}, **options).transformer
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    return Denoiser(model, Flow(model.convention))


def made(denoiser, rules, adapters=1, scale=0.0, weights=(1.0, 0.5), **options) -> JointDenoiser:
    """Of as many adapters, and one rule of each branch."""
    found = [adapter_of(denoiser.model, seed=seed, **options) for seed in range(adapters)]
    runs = [rule.begin(denoiser.process.prediction) for rule in rules]
    return JointDenoiser(denoiser, found, weights[:adapters], runs, LABELS, NULL, scale)


def states(parts: int, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(B, 3, 8, 8, generator=generator) for _ in range(parts)]


@torch.no_grad()
def one_pass(denoise: JointDenoiser, x, t, labels, strength: float):
    """x0 of every branch, in a batch of this pass alone."""
    parts = len(x)
    stacked = Stacked(denoise.adapters, [weight * strength for weight in denoise.weights])
    x0, _ = denoise.denoiser._replace(adapter=stacked)(
        torch.cat(x),
        torch.tensor(t[:parts]).repeat_interleave(B),
        labels.repeat(parts),
        None,
    )
    return x0.chunk(parts)


def passes(denoise, x, t):
    """x0_tj, x0_uj and x0_ts of every branch."""
    null = torch.full_like(LABELS, NULL)
    given = ((LABELS, 1.0), (null, 1.0), (LABELS, 0.0))
    return zip(*(one_pass(denoise, x, t, *one) for one in given), strict=True)


@torch.no_grad()
@pytest.mark.parametrize("parts", [2, 3])
@pytest.mark.parametrize(("s", "s_c"), [(3.0, 0.0), (1.0, 0.0), (3.0, 1.5), (1.0, 1.5), (0.0, 2.0)])
def test_every_branch_is_guided_by_class_and_by_the_others(parts, s, s_c):
    """x0_uj + s (x0_tj - x0_uj) + s_c (x0_tj - x0_ts), of passes computed one by one."""
    denoise = made(denoiser_of(), [CFG(s)] * parts, parts - 1, s_c)
    x, t, earlier = states(parts), TIMES[:parts], EARLIER[:parts]
    found = denoise(x, t, earlier, [True] * parts)
    for one, (tj, uj, ts) in zip(found, passes(denoise, x, t), strict=True):
        expected = uj + s * (tj - uj) + s_c * (tj - ts)
        torch.testing.assert_close(one.x0, expected, rtol=1e-4, atol=1e-4)
        assert (tj - uj).std() > 0.1
        assert (tj - ts).std() > 0.1


@torch.no_grad()
def test_a_run_of_each_branch_remembers_its_own_steps():
    """APG's momentum: as if each branch had been guided alone."""
    rule = APG(3.0, momentum=-0.5, threshold=0.0)
    denoise = made(denoiser_of(), [rule] * 2, scale=0.5)
    alone = [rule.begin("velocity") for _ in range(2)]
    for seed, t in ((1, [0.9, 0.6]), (2, [0.7, 0.5])):
        x = states(2, seed)
        found = denoise(x, t, t, [True, True])
        for i, (tj, uj, ts) in enumerate(passes(denoise, x, t)):
            expected = alone[i](tj, uj) + 0.5 * (tj - ts)
            torch.testing.assert_close(found[i].x0, expected, rtol=1e-4, atol=1e-4)
            forgetful = rule.begin()(tj, uj) + 0.5 * (tj - ts)
            assert torch.allclose(expected, forgetful, atol=0.1) == (seed == 1)


class Counted(torch.nn.Module):
    """A model that notes the labels of its batches."""

    def __init__(self, model):
        super().__init__()
        self.model, self.labels = model, []

    def forward(self, x, t, y, **told):
        self.labels.append(y.tolist())
        return self.model(x, t, y, **told)


class Small(Counted):
    """A model whose memory holds a pass of two images and their conditions."""

    def forward(self, x, t, y, **told):
        if len(x) > 2 * B:
            self.labels.append(len(x))
            raise torch.OutOfMemoryError("four rows fit")
        return super().forward(x, t, y, **told)


@torch.no_grad()
def test_passes_that_do_not_fit_together_come_one_by_one():
    denoise, small = (made(denoiser_of(), [CFG(3.0)] * 2, scale=1.5) for _ in range(2))
    small.denoiser = small.denoiser._replace(model=Small(small.denoiser.model))
    for seed in (1, 2):
        x, t = states(2, seed), TIMES[:2]
        every = [one(x, t, EARLIER[:2], [True, True]) for one in (denoise, small)]
        for found, wanted in zip(*every, strict=True):
            torch.testing.assert_close(found.x0, wanted.x0, rtol=1e-4, atol=1e-4)
    alone = [[0, 2] * 2, [3, 3] * 2, [0, 2] * 2]
    assert small.denoiser.model.labels == [12, *alone, *alone]  # tried together once


@torch.no_grad()
def test_an_interval_may_hold_for_one_branch_and_not_for_the_other():
    """Levels are sigma / alpha: 3 and 1 here."""
    rule = Interval(CFG(3.0), low=2.0)
    denoise = made(denoiser_of(), [rule] * 2)
    x, t = states(2), TIMES[:2]
    image, condition = denoise(x, t, EARLIER[:2], [True, True])
    (tj, uj, _), (alone, *_) = passes(denoise, x, t)
    torch.testing.assert_close(image.x0, uj + 3 * (tj - uj), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(condition.x0, alone, rtol=1e-4, atol=1e-4)


class Asking:
    """A run that asks for the pass without class at high noise levels, and notes what it gets."""

    def __init__(self):
        self.given = []

    def passes(self, level):
        return ("cond", "uncond") if level > 2 else ("cond",)

    def __call__(self, cond, uncond, *, x_t, alpha, sigma, advance=True):
        self.given.append((uncond is not None, alpha, sigma, advance))
        return cond


@torch.no_grad()
def test_a_run_is_told_its_branch_s_levels_and_given_what_it_asked_for():
    denoise = made(denoiser_of(), [CFG(1.0)] * 2)
    denoise.runs = [Asking(), Asking()]
    denoise(states(2), TIMES[:2], EARLIER[:2], [True, True])
    assert [run.given for run in denoise.runs] == [
        [(True, 0.25, 0.75, True)],
        [(False, 0.5, 0.5, True)],
    ]


@torch.no_grad()
@pytest.mark.parametrize(
    ("t", "moving", "scale", "labels"),
    [
        ([0.75, 0.75], [True, True], 0.0, [0, 2, 3, 3] * 2),
        ([0.5, 0.5], [True, True], 0.0, [0, 2] * 2),
        ([0.75, 0.5], [False, True], 0.0, [0, 2] * 2),
        ([0.75, 0.5], [True, False], 2.0, [0, 2, 3, 3, 0, 2] * 2),
    ],
)
def test_only_what_a_moving_branch_asks_for_is_computed_and_in_one_batch(t, moving, scale, labels):
    denoise = made(denoiser_of(), [Interval(CFG(3.0), low=2.0)] * 2, scale=scale)
    denoise.denoiser = denoise.denoiser._replace(model=Counted(denoise.denoiser.model))
    found = denoise(states(2), t, t, moving)
    assert denoise.denoiser.model.labels == [labels]
    assert [one is not None for one in found] == moving


@torch.no_grad()
def test_a_resting_branch_gets_nothing_and_its_run_rests_too():
    rule = APG(3.0, momentum=-0.5, threshold=0.0)
    denoise, fresh = (made(denoiser_of(), [rule] * 2) for _ in range(2))
    t = [0.5, 0.5]
    moved, rested = denoise(states(2, 1), t, t, [True, False])
    assert moved is not None
    assert rested is None
    first, second = denoise(states(2, 2), t, t, [True, True])
    alone, same = fresh(states(2, 2), t, t, [True, True])
    assert torch.equal(second.x0, same.x0)
    assert not torch.allclose(first.x0, alone.x0, atol=1e-2)


def test_autoguidance_is_refused():
    denoise = made(denoiser_of(), [AutoGuidance(CFG(2.0))] * 2)
    with pytest.raises(ValueError, match="guidance: joint generation takes no guide"):
        denoise(states(2), TIMES[:2], EARLIER[:2], [True, True])


@torch.no_grad()
def test_the_log_variance_is_that_of_the_conditional_pass_to_the_branch_s_own_next_time():
    model = build(prediction="v", out_channels=6).transformer
    process = DDPM(TimeConvention(), "v", DDPMConfig(learned_variance=True))
    denoise = made(Denoiser(model, process), [CFG(3.0)] * 2, scale=1.0)
    x, t, s = states(2), [0.8, 0.5], [0.6, 0.4]
    found = denoise(x, t, s, [True, True])
    stacked = Stacked(denoise.adapters, [1.0])
    _, expected = process.denoise(
        model,
        torch.cat(x),
        torch.tensor(t).repeat_interleave(B),
        LABELS.repeat(2),
        torch.tensor(s).repeat_interleave(B),
        adapter=stacked,
    )
    for one, variance in zip(found, expected.chunk(2), strict=True):
        torch.testing.assert_close(one.log_variance, variance, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_all_passes_of_all_branches_of_an_image_draw_the_same_positions():
    """Two images of the same noise differ by what their encoding draws, and by nothing else."""
    model = build(position=RANDOM).transformer
    x = [state[:1].expand(B, -1, -1, -1) for state in states(2)]
    labels, found = torch.tensor([1, 1]), {}
    for seeds in ([7, 7], [7, 5]):
        denoise = made(Denoiser(model, Flow(model.convention), seeds), [CFG(3.0)] * 2, scale=1.0)
        denoise.labels = labels
        found[seeds[1]] = [one.x0 for one in denoise(x, [0.8, 0.4], [0.6, 0.2], [True, True])]
    for same, other in zip(found[7], found[5], strict=True):
        torch.testing.assert_close(same[0], same[1], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(same[0], other[0], rtol=1e-4, atol=1e-5)
        assert not torch.allclose(other[0], other[1], atol=1e-2)

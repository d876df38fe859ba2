"""Guidance rules in the pipeline: models of every prediction, solvers, guides, memory."""

import copy
from threading import Thread

import pytest
import torch
from torch import nn

from diffgen import APG, CFG, DiffGenPipeline, DiT
from diffgen.config.guidance import AutoGuidanceConfig
from diffgen.config.model import TimeConvention
from diffgen.config.process import DDPMConfig
from diffgen.config.sampling import SamplingConfig
from diffgen.errors import UserError
from diffgen.guidance import AutoGuidance, CFGZeroStar, FirstChannels, Interval, Rescale
from diffgen.processes import DDPM, Flow
from diffgen.processes.process import per_sample
from diffgen.sampling.batches import draw_batches
from diffgen.sampling.guided import Denoiser, GuidedDenoiser
from diffgen.sampling.schedulers import build_scheduler, set_steps
from diffgen.sampling.walk import walk
from tests.tiny import build, draw

# diffusers hands a tensor to numpy the old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

RULES = [
    APG(5.0, 0.2, 0.1, -0.5, "rms"),
    CFGZeroStar(5.0),
    Interval(Rescale(APG(5.0, momentum=-0.5), 0.5), 0.2, 5.0),
]


class Believing(nn.Module):
    """Answers, in terms of eps, v, velocity or x0, that the image is a function of x, t and y."""

    def __init__(self, prediction: str, process) -> None:
        super().__init__()
        self.net = nn.Conv2d(3, 3, 3, padding=1, dtype=torch.float64)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for p in self.net.parameters():
                p.copy_(0.3 * torch.randn(p.shape, generator=generator, dtype=p.dtype))
        self.prediction, self.process = prediction, process

    def forward(self, x, t, y):
        process = self.process
        steps = process.config.num_train_timesteps if isinstance(process, DDPM) else None
        t = (t + 1) / steps if steps else t  # the process counts a chain's steps from 0
        alpha, sigma = (per_sample(part.to(x), x) for part in process.levels(t.double()))
        x0 = torch.tanh(self.net(x)) + per_sample(y, x) / 10
        match self.prediction:
            case "x0":
                return x0
            case "eps":
                return (x - alpha * x0) / sigma
            case "v":
                return alpha * (x - alpha * x0) / sigma - sigma * x0
        return (x - x0) / sigma


def guided_x0(prediction: str, rule, chain: bool) -> list[torch.Tensor]:
    """Guided x0 at four noise levels of one run."""
    convention = TimeConvention(scale=1000 if chain else 1)
    process = (DDPM if chain else Flow)(convention, prediction, *([DDPMConfig()] if chain else []))
    denoiser = Denoiser(Believing(prediction, process), process)
    labels = torch.tensor([0, 2])
    denoise = GuidedDenoiser(denoiser, rule.begin(prediction), labels, null_label=3)
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(4, 2, 3, 6, 6, generator=generator, dtype=torch.float64)
    times = [0.9, 0.6, 0.3, 0.1]
    return [denoise(x, t, True).x0 for x, t in zip(noise, times, strict=True)]


@pytest.mark.parametrize("rule", [CFG(5.0), *RULES], ids=lambda rule: type(rule).__name__)
@pytest.mark.parametrize(
    ("predictions", "chain"), [(("x0", "eps", "v"), True), (("x0", "velocity"), False)]
)
def test_what_a_model_predicts_does_not_change_its_guided_x0(rule, predictions, chain):
    first, *others = (guided_x0(prediction, rule, chain) for prediction in predictions)
    for other in others:
        for one, two in zip(first, other, strict=True):
            torch.testing.assert_close(one.float(), two.float(), rtol=0, atol=1e-4)


def test_in_raw_space_it_does():
    rule = APG(5.0, threshold=0.1, space="raw")
    eps, v = (guided_x0(prediction, rule, True) for prediction in ("eps", "v"))
    assert not torch.allclose(eps[1], v[1], atol=1e-3)


@pytest.mark.parametrize("scheduler", ["euler", "heun", "dpmpp"])
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
def test_every_rule_draws_with_every_solver_and_the_same_again(scheduler, rule):
    pipe = build(scheduler)
    first = draw(pipe, guidance=rule)
    assert first.isfinite().all()
    assert torch.equal(draw(pipe, guidance=rule), first)
    assert not torch.allclose(first, draw(pipe, guidance=CFG(5.0)), atol=1e-3)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
def test_four_images_at_once_are_four_alone(rule):
    pipe = build("dpmpp")
    together = draw(pipe, (0, 1, 2, 0), guidance=rule)
    for k, label in enumerate((0, 1, 2, 0)):
        alone = draw(pipe, (label,), guidance=rule, image_numbers=[k])
        torch.testing.assert_close(alone[0], together[k], rtol=0, atol=1e-4)


def test_threads_that_share_a_rule_draw_what_one_alone_draws():
    rule, results = RULES[0], {}
    pipes = [build("heun") for _ in range(3)]
    expected = draw(build("heun"), guidance=rule)

    def work(k: int) -> None:
        results[k] = draw(pipes[k], guidance=rule)

    threads = [Thread(target=work, args=(k,)) for k in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(results[k], expected) for k in range(3))


def test_heun_advances_momentum_once_a_step():
    """Its second evaluations are guided by the state their step began with."""
    seen = []

    class Watching:
        """APG, noting the buffer each evaluation starts from."""

        baseline = "uncond"

        def begin(self, raw="x0"):
            self.run = APG(3.0, momentum=-0.5).begin(raw)
            return self

        def passes(self, level):
            return self.run.passes(level)

        def __call__(self, cond, uncond, **level):
            out = self.run(cond, uncond, **level)
            seen.append((level["advance"], self.run.before))
            return out

    draw(build("heun"), guidance=Watching(), num_inference_steps=3)
    assert [advance for advance, _ in seen] == [True, False, True, False, True]
    assert seen[0][1] is None
    assert seen[1][1] is None
    assert torch.equal(seen[2][1], seen[3][1])
    assert not torch.equal(seen[2][1], seen[4][1])


def test_an_interval_that_no_step_reaches_is_refused():
    """Four Euler steps: levels infinite, 3, 1 and 1/3."""
    rule = FirstChannels(Interval(CFG(5.0), 1.1, 2.9), 3)
    with pytest.raises(UserError, match=r"no step lies in the interval.*inf, 3, 1, 0\.33"):
        draw(build(), guidance=rule)
    assert draw(build(), guidance=Interval(CFG(5.0), 0.9, 2.9)).isfinite().all()


class TestAutoguidance:
    @pytest.fixture
    def weak(self):
        weak = build(hidden_size=16, depth=1)
        assert weak.transformer.config.depth == 1
        return weak

    def test_it_extrapolates_from_the_guide_with_the_same_condition(self, weak):
        """One Euler step: noise to x0, so the pictures combine as the predictions do."""
        pipe, one = build(), {"num_inference_steps": 1}
        guided = draw(pipe, guidance=AutoGuidance(CFG(2.5)), guide=weak, **one)
        own, theirs = (draw(p, guidance_scale=1.0, **one) for p in (pipe, weak))
        torch.testing.assert_close(guided, theirs + 2.5 * (own - theirs), rtol=0, atol=1e-5)

    def test_models_without_classes_can_be_guided(self):
        pipe, weak = build(num_classes=0), build(num_classes=0, depth=1)
        one = {"labels": None, "num_images": 2, "num_inference_steps": 1}
        guided = draw(pipe, guidance=AutoGuidance(CFG(2.0)), guide=weak, **one)
        assert not torch.allclose(guided, draw(pipe, guidance_scale=1.0, **one))

    def test_models_may_predict_different_things(self):
        pipe, weak = build(prediction="velocity"), build(prediction="x0")
        assert draw(pipe, guidance=AutoGuidance(CFG(2.0)), guide=weak).isfinite().all()

    def test_the_guide_itself_is_no_help(self):
        pipe = build()
        guided = draw(pipe, guidance=AutoGuidance(CFG(7.0)), guide=copy.deepcopy(pipe))
        torch.testing.assert_close(guided, draw(pipe, guidance_scale=1.0), rtol=0, atol=1e-5)

    def test_a_guide_that_draws_positions_draws_the_same_at_every_step(self):
        pipe = build()
        weak = build(position={"kind": "rpe2d", "inference": "random"})
        rule = AutoGuidance(CFG(2.0))
        assert torch.equal(*(draw(pipe, guidance=rule, guide=weak) for _ in range(2)))

    @pytest.mark.parametrize(
        ("options", "named"),
        [
            ({"num_classes": 2}, "number of classes 2 is not the model's, 3"),
            ({"in_channels": 1}, "number of channels 1 is not the model's, 3"),
        ],
    )
    def test_a_guide_of_another_kind_is_refused(self, options, named):
        with pytest.raises(ValueError, match=named):
            draw(build(), guidance=AutoGuidance(CFG(2.0)), guide=build(**options))

    def test_a_guide_of_other_classes_or_a_coarser_patch_is_refused(self):
        other = build()
        other.register_to_config(class_names=["a", "b", "c"])
        rule = AutoGuidance(CFG(2.0))
        with pytest.raises(ValueError, match=r"guide: its classes are \['a', 'b', 'c'\]"):
            draw(build(), guidance=rule, guide=other)
        with pytest.raises(ValueError, match="not a positive multiple of the patch 4"):
            draw(build(), guidance=rule, guide=build(patch_size=4), height=10, width=10)

    def test_it_draws_with_the_models_scaling(self):
        """Else the two would differ by their encodings at other sizes than trained."""
        pipe, weak = (build(position={"kind": "rope", "additive": False}) for _ in range(2))
        settings = {"height": 16, "width": 16, "seed": 0, "batches": [range(2)]}
        config = SamplingConfig(
            scheduler="euler", steps=2, scaling="ntk", guidance=AutoGuidanceConfig(guide="same")
        )
        guided = next(draw_batches(pipe, config, [0, 1], guide=weak, **settings)).images
        unguided = SamplingConfig(scheduler="euler", steps=2, scaling="ntk", guidance={"scale": 1})
        alone = next(draw_batches(pipe, unguided, [0, 1], **settings)).images
        assert (guided.int() - alone.int()).abs().max() <= 1

    @pytest.mark.parametrize("wrong", [8, "apg", {"kind": "apg"}, APG])
    def test_what_is_no_rule_or_no_pipeline_is_named(self, wrong):
        with pytest.raises(ValueError, match=r"guidance: .* is no rule"):
            draw(build(), guidance=wrong)
        with pytest.raises(ValueError, match=r"guide: .* is no pipeline"):
            draw(build(), guidance=AutoGuidance(), guide="runs/weak")

    def test_a_missing_or_useless_guide_is_refused(self, weak):
        with pytest.raises(ValueError, match="guide: autoguidance needs one"):
            draw(build(), guidance=Interval(AutoGuidance(CFG(2.0)), 0.1, 0.5))
        with pytest.raises(ValueError, match="guide: only AutoGuidance has a use for one"):
            draw(build(), guide=weak)


class TestChannels:
    def test_a_rule_that_says_is_followed_instead_of_the_model(self):
        pipe = build(guidance_channels=1)
        stated = draw(pipe, guidance=APG(5.0))
        assert torch.equal(stated, draw(pipe, guidance=FirstChannels(APG(5.0), 1)))
        every = draw(pipe, guidance=FirstChannels(APG(5.0), 3))
        assert torch.equal(every, draw(build(), guidance=APG(5.0)))
        assert not torch.allclose(every, stated)

    def test_it_may_say_so_inside_other_rules(self):
        rule = Interval(FirstChannels(CFG(5.0), 3), 0.1, 5.0)
        found = draw(build(guidance_channels=1), guidance=rule)
        assert torch.equal(found, draw(build(), guidance=rule))

    def test_a_model_that_states_more_than_it_has_is_guided_on_all(self):
        assert torch.equal(draw(build(guidance_channels=9)), draw(build()))

    def test_more_than_there_are_is_refused(self):
        with pytest.raises(ValueError, match="channels: 4 of 3 cannot be guided"):
            draw(build(), guidance=FirstChannels(APG(5.0), 4))


class Small(nn.Module):
    """A model whose memory holds two images."""

    def __init__(self, inner: DiT) -> None:
        super().__init__()
        self.inner, self.calls = inner, []

    def forward(self, x, t, y, **told):
        self.calls.append(len(x))
        if len(x) > 2:
            raise torch.OutOfMemoryError("two images fit")
        return self.inner(x, t, y, **told)


def test_passes_that_do_not_fit_together_come_one_by_one():
    pipe: DiffGenPipeline = build()
    small = Small(pipe.transformer.eval())
    scheduler = build_scheduler("euler")
    results = []
    for model in (pipe.transformer, small):
        set_steps(scheduler, 3, "cpu")
        generator = torch.Generator().manual_seed(0)
        noise, labels = torch.randn(2, 3, 8, 8, generator=generator), torch.tensor([0, 1])
        denoiser = Denoiser(model, Flow(pipe.transformer.convention, "velocity"))
        results.append(walk(denoiser, scheduler, CFG(3.0), noise, labels, 3))
    torch.testing.assert_close(*results, rtol=0, atol=1e-5)
    assert small.calls == [4, 2, 2, 2, 2, 2, 2]  # tried together once

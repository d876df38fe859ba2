"""CFG-Zero*, and the rules around other rules: intervals, rescaling, channels, a guide."""

import math

import pytest
import torch

from diffgen.config.guidance import read_guidance
from diffgen.guidance import (
    APG,
    CFG,
    AutoGuidance,
    CFGZeroStar,
    FirstChannels,
    Interval,
    Rescale,
    build_rule,
)
from diffgen.guidance.cfg_zero_star import cfg_zero_star, optimised_scale
from diffgen.guidance.spaces import Level, noise_level


def unit(seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(4, 3, 6, 5, generator=generator, dtype=torch.float64)


COND, UNCOND, X_T = (unit(seed) for seed in range(3))
HALF = {"x_t": X_T, "alpha": 0.5, "sigma": 0.5}
RULES = {
    "cfg": CFG(3.0),
    "apg": APG(3.0, 0.2, 2.0, -0.5, "norm"),
    "cfg_zero_star": CFGZeroStar(3.0),
    "autoguidance": AutoGuidance(CFG(3.0)),
    "rescale": Rescale(CFG(3.0), 0.7),
    "channels": FirstChannels(APG(3.0), 2),
    "interval": Interval(Rescale(APG(3.0, momentum=-0.5), 0.5), 0.3, 3.0),
}


def at(level: float) -> dict:
    """A flow's alpha and sigma at a noise level."""
    if math.isinf(level):
        return {"x_t": X_T, "alpha": 0.0, "sigma": 1.0}
    return {"x_t": X_T, "alpha": 1 / (1 + level), "sigma": level / (1 + level)}


@pytest.mark.parametrize("name", RULES)
def test_a_batch_of_four_is_four_of_one(name):
    together = RULES[name].begin()
    alone = [RULES[name].begin() for _ in range(4)]
    for level in (9.0, 2.0, 0.5, 0.1):
        conds, unconds = COND * level, UNCOND + level
        where = at(level)
        found = together(conds, unconds, **where)
        for k, run in enumerate(alone):
            one = slice(k, k + 1)
            parts = {**where, "x_t": X_T[one]}
            expected = run(conds[one], unconds[one], **parts)
            torch.testing.assert_close(found[one], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", RULES)
def test_a_rule_can_be_begun_again(name):
    first, second = (RULES[name].begin()(COND, UNCOND, **HALF) for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize("kind", ["cfg", "apg", "cfg_zero_star"])
@pytest.mark.parametrize("level", [0.1, 10.0, math.inf])
def test_scale_1_is_one_pass_whatever_is_around_it(kind, level):
    settings = {"kind": kind, "scale": 1, "rescale": 0.7, "interval_high": 5.0, "channels": 2}
    run = build_rule(read_guidance({"guidance": settings})).begin()
    assert run.passes(level) == ("cond",)
    assert torch.equal(run(COND, None, **at(level)), COND)


class TestInterval:
    def test_the_upper_bound_is_inside_and_the_lower_one_not(self):
        run = Interval(CFG(3.0), 0.5, 2.0).begin()
        inside = {level: len(run.passes(level)) == 2 for level in (0.4, 0.5, 0.51, 2.0, 2.1)}
        assert inside == {0.4: False, 0.5: False, 0.51: True, 2.0: True, 2.1: False}
        assert torch.equal(run(COND, None, **at(0.4)), COND)
        assert torch.equal(run(COND, None, **at(3.0)), COND)
        guided = run(COND, UNCOND, **at(1.0))
        assert torch.equal(guided, CFG(3.0).begin()(COND, UNCOND))

    def test_without_bounds_it_is_the_rule_also_at_pure_noise(self):
        run = Interval(CFG(3.0)).begin()
        assert run.passes(math.inf) == ("cond", "uncond")
        assert torch.equal(run(COND, UNCOND, **at(math.inf)), CFG(3.0)(COND, UNCOND))

    def test_the_rules_state_rests_outside(self):
        rule = APG(3.0, momentum=-0.5)
        run, plain = Interval(rule, 0.5, 2.0).begin(), rule.begin()
        found = [run(COND, UNCOND, **at(1.0)), run(X_T, COND, **at(5.0)), run(X_T, UNCOND, **at(1))]
        expected = [plain(COND, UNCOND), X_T, plain(X_T, UNCOND)]
        for one, other in zip(found, expected, strict=True):
            assert torch.equal(one, other)

    @pytest.mark.parametrize("bounds", [(2.0, 2.0), (3.0, 1.0), (-1.0, 2.0), (0.0, math.nan)])
    def test_an_empty_one_is_refused(self, bounds):
        with pytest.raises(ValueError, match="low and high must hold a noise level between them"):
            Interval(CFG(3.0), *bounds)


class TestRescale:
    def test_a_share_of_1_gives_the_conditional_deviation(self):
        guided = Rescale(CFG(8.0), 1.0).begin()(COND, UNCOND)
        wanted, found = (x.flatten(1).std(dim=1) for x in (COND, guided))
        torch.testing.assert_close(found, wanted)
        assert torch.equal(Rescale(CFG(8.0), 0.0).begin()(COND, UNCOND), CFG(8.0)(COND, UNCOND))

    def test_a_share_out_of_range_is_refused(self):
        with pytest.raises(ValueError, match=r"share must lie in \[0, 1\]"):
            Rescale(CFG(3.0), 1.5)


class TestFirstChannels:
    def test_the_others_are_the_conditional_ones(self):
        run = FirstChannels(APG(3.0), 2).begin()
        found = run(COND, UNCOND, **HALF)
        expected = APG(3.0).begin()(COND[:, :2], UNCOND[:, :2])
        assert torch.equal(found[:, :2], expected)
        assert torch.equal(found[:, 2:], COND[:, 2:])

    def test_rules_that_see_the_noisy_image_see_its_channels(self):
        found = FirstChannels(CFGZeroStar(3.0), 2).begin()(COND, UNCOND, **HALF)
        parts = {**HALF, "x_t": X_T[:, :2]}
        expected = CFGZeroStar(3.0).begin()(COND[:, :2], UNCOND[:, :2], **parts)
        assert torch.equal(found[:, :2], expected)

    def test_no_channel_is_refused(self):
        with pytest.raises(ValueError, match="count must be 1 or more"):
            FirstChannels(CFG(3.0), 0)


def at_rest(level: float) -> torch.Tensor:
    """The x0 of a velocity of 0."""
    return Level(**at(level)).to_x0("velocity", torch.zeros_like(X_T))


class TestCFGZeroStar:
    def test_the_scale_makes_the_rest_smallest(self):
        """s* is the least-squares fit of the conditional velocity by the unconditional one."""
        star = optimised_scale(COND, UNCOND)
        assert star.shape == (4, 1, 1, 1)

        def rest(s):
            return (COND - s * UNCOND).square().flatten(1).sum(1)

        assert bool((rest(star) <= rest(star + 1e-3)).all())
        assert bool((rest(star) <= rest(star - 1e-3)).all())

    def test_it_guides_velocities(self):
        level = Level(**HALF)
        velocities = [level.from_x0("velocity", x0) for x0 in (COND, UNCOND)]
        found = CFGZeroStar(3.0).begin()(COND, UNCOND, **HALF)
        expected = level.to_x0("velocity", cfg_zero_star(*velocities, 3.0))
        torch.testing.assert_close(found, expected)

    def test_a_chain_gives_what_a_flow_at_the_same_level_gives(self):
        """Of one image and noise the two hold the same but for a factor."""
        level, norm = 1.7, math.hypot(1.0, 1.7)
        flow = at(level)
        chain = {"alpha": 1 / norm, "sigma": level / norm}
        scaled = X_T * (chain["alpha"] + chain["sigma"])
        found = CFGZeroStar(3.0).begin()(COND, UNCOND, x_t=scaled, **chain)
        torch.testing.assert_close(found, CFGZeroStar(3.0).begin()(COND, UNCOND, **flow))

    def test_it_stands_still_at_first(self):
        """A velocity of 0 is an x0 of x_t; a later level is guided."""
        run = CFGZeroStar(3.0).begin()
        assert run.passes(math.inf) == ("cond",)
        torch.testing.assert_close(run(COND, None, **at(math.inf)), X_T)
        assert run.passes(49.0) == ("cond", "uncond")  # the second of 50 steps
        assert CFGZeroStar(3.0, zero_above=0.0).begin().passes(math.inf) == ("cond", "uncond")
        assert torch.equal(run(COND, UNCOND, **at(49.0), advance=False), at_rest(49.0))
        moving = run(COND, UNCOND, **at(49.0))
        assert not torch.allclose(moving, at_rest(49.0))
        paper = CFGZeroStar(3.0, zero_above=24.0).begin()  # the first 4 % of a flow's time
        assert [len(paper.passes(noise_level(1 - t, t))) for t in (0.97, 0.95)] == [1, 2]


class TestAutoGuidance:
    def test_the_guide_takes_the_place_of_the_unconditional_pass(self):
        rule = AutoGuidance(CFG(2.5))
        assert rule.baseline == "guide"
        assert rule.begin().passes(1.0) == ("cond", "guide")
        assert torch.equal(rule.begin()(COND, UNCOND), UNCOND + 2.5 * (COND - UNCOND))

    def test_scale_1_needs_no_guide(self):
        assert AutoGuidance(CFG(1.0)).begin().passes(1.0) == ("cond",)

    def test_rules_around_it_ask_for_the_guide_too(self):
        rule = Interval(Rescale(FirstChannels(AutoGuidance(APG(2.0)), 2), 0.5), 0.1, 5.0)
        assert rule.baseline == "guide"
        assert rule.begin().passes(1.0) == ("cond", "guide")


def test_settings_become_rules():
    def built(**settings):
        return build_rule(read_guidance({"guidance": settings}))

    assert built() == CFG(2.0)
    assert built(scale=3.0, interval_low=0.2) == Interval(CFG(3.0), 0.2, math.inf)
    assert built(kind="cfg_zero_star", zero_above=0) == CFGZeroStar(2.0, 0.0)
    guided = built(kind="autoguidance", guide="x", rescale=0.5)
    assert guided == Rescale(AutoGuidance(CFG(2.0)), 0.5)
    every = {
        "kind": "apg",
        "scale": 8.0,
        "eta": 0.1,
        "threshold": 0.25,
        "threshold_mode": "rms",
        "momentum": -0.5,
        "space": "raw",
        "combine": "uncond",
        "rescale": 0.7,
        "interval_low": 0.1,
        "interval_high": 3.0,
        "channels": 3,
    }
    rule = APG(8.0, 0.1, 0.25, -0.5, "rms", "raw", "uncond")
    assert built(**every) == FirstChannels(Interval(Rescale(rule, 0.7), 0.1, 3.0), 3)


def test_earlier_settings_are_read():
    assert build_rule(read_guidance({"guidance_scale": 4.0, "steps": 3})) == CFG(4.0)
    newer = {"guidance_scale": 4.0, "guidance": {"rescale": 0.5}}  # a flag over an old file
    assert build_rule(read_guidance(newer)) == Rescale(CFG(4.0), 0.5)

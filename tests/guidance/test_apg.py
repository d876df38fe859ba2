"""Adaptive projected guidance: golden numbers, the identities its formula promises, its state."""

from pathlib import Path
from threading import Thread

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from diffgen.config.guidance import read_guidance
from diffgen.guidance import APG, CFG, FirstChannels, build_rule, presets
from diffgen.guidance.apg import apg, exact, parallel, shorten
from diffgen.guidance.spaces import Level

GOLDEN = Path(__file__).parents[1] / "data/golden/apg.safetensors"


def unit(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def bare(
    scale: float = 2.0,
    eta: float = 0.0,
    threshold: float | None = None,
    momentum: float = 0.0,
    mode: str = "norm",
    **more,
) -> APG:
    """The rule with everything off that is not asked for, and thresholds that are norms."""
    return APG(scale, eta, threshold, momentum, mode, **more)


COND, UNCOND, X_T = (unit(4, 3, 6, 5, seed=seed) for seed in range(3))


def run_through(rule: APG, cond, uncond, **level) -> torch.Tensor:
    """Guided predictions of successive steps (T, B, C, H, W)."""
    run = rule.begin()
    return torch.stack([run(c, u, **level) for c, u in zip(cond, uncond, strict=True)])


@pytest.mark.parametrize("setting", ["a", "b", "c", "d"])
def test_golden(setting):
    golden = load_file(GOLDEN)
    scale, eta, threshold, momentum = golden[f"{setting}.scale_eta_threshold_momentum"].tolist()
    found = run_through(bare(scale, eta, threshold, momentum), golden["cond"], golden["uncond"])
    torch.testing.assert_close(found, golden[f"{setting}.guided"], rtol=0, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@given(scale=st.floats(0, 40), seed=st.integers(0, 10_000))
def test_with_eta_1_it_is_cfg(dtype, scale, seed):
    cond, uncond = (unit(2, 3, 4, 4, seed=seed + k, dtype=dtype) for k in range(2))
    found = bare(scale, eta=1.0).begin()(cond, uncond)
    assert torch.equal(found, cond + (scale - 1) * (cond - uncond))
    if dtype == torch.float64:
        other = CFG(scale).begin()(cond, uncond)
        torch.testing.assert_close(found, other, rtol=1e-12, atol=1e-12)


@given(eta=st.floats(-1, 2), threshold=st.floats(0, 20), momentum=st.floats(-0.9, 0.9))
def test_scale_1_is_the_conditional_prediction(eta, threshold, momentum):
    run = bare(1.0, eta, threshold, momentum).begin()
    assert run.passes(1.0) == ("cond",)
    assert torch.equal(run(COND, None), COND)
    for _ in range(2):  # also where someone computes both
        assert torch.equal(run(COND, UNCOND), COND)


def test_eta_0_leaves_the_length_along_the_conditional_prediction():
    """So a prediction is not scaled up, whatever the scale."""
    guided = bare(9.0).begin()(COND, UNCOND)
    along = (guided * COND).flatten(1).sum(1) / COND.square().flatten(1).sum(1)
    torch.testing.assert_close(along, torch.ones(4, dtype=torch.float64))
    assert not torch.allclose(guided, COND)


def test_parallel_and_the_rest_are_at_right_angles_and_add_up():
    d = COND - UNCOND
    along = parallel(d, COND)
    inner = ((d - along) * along).flatten(1).sum(1)
    torch.testing.assert_close(inner, torch.zeros(4, dtype=torch.float64), rtol=0, atol=1e-10)
    for zero in (parallel(d, torch.zeros_like(d)), parallel(torch.zeros_like(d), d)):
        assert torch.equal(zero, torch.zeros_like(d))


@pytest.mark.parametrize("longest", [0.5, 5.0, 500.0])
def test_updates_are_shortened_never_lengthened(longest):
    d = (COND - UNCOND) * torch.tensor([0.01, 0.1, 1.0, 0.0]).reshape(4, 1, 1, 1)
    before = d.flatten(1).norm(dim=1)
    after = shorten(d, longest).flatten(1).norm(dim=1)
    torch.testing.assert_close(after, before.clamp(max=longest))


def test_rms_thresholds_are_norms_over_the_root_of_the_size():
    at_home = bare(8.0, threshold=2.0).begin()(COND, UNCOND)
    elements = COND[0].numel()
    rms = bare(8.0, threshold=2.0 / elements**0.5, mode="rms")
    torch.testing.assert_close(rms.begin()(COND, UNCOND), at_home)
    # of a picture twice as high, made of two copies, it is the same again
    tall = rms.begin()(COND.repeat(1, 1, 2, 1), UNCOND.repeat(1, 1, 2, 1))
    torch.testing.assert_close(tall[:, :, :6], at_home)


def test_no_threshold_is_none_or_0():
    free, zero = (bare(8.0, threshold=threshold).begin()(COND, UNCOND) for threshold in (None, 0))
    assert torch.equal(free, zero)
    assert not torch.allclose(free, bare(8.0, threshold=1.0).begin()(COND, UNCOND))


def test_momentum_adds_the_last_steps_update_before_the_threshold():
    conds, unconds = unit(3, 2, 1, 4, 4, seed=7), unit(3, 2, 1, 4, 4, seed=8)
    gathered = torch.zeros_like(conds[0])
    for found, cond, uncond in zip(
        run_through(bare(5.0, 0.2, 1.5, -0.6), conds, unconds), conds, unconds, strict=True
    ):
        gathered = cond - uncond - 0.6 * gathered  # by its full length
        torch.testing.assert_close(found, apg(cond, shorten(gathered, 1.5), 5.0, 0.2))


def test_the_stages_of_a_step_see_one_state():
    """As if each stage came alone after the step before: what Heun's second evaluation gets."""
    conds, unconds = unit(4, 2, 1, 4, 4, seed=7), unit(4, 2, 1, 4, 4, seed=8)
    run = bare(5.0, momentum=-0.6).begin()
    pairs = list(zip(conds, unconds, strict=True))
    first = run(*pairs[0])
    inner = [run(*pairs[k], advance=False) for k in (1, 2)]
    after = run(*pairs[3])
    for k, found in ((1, inner[0]), (2, inner[1])):  # the first step's state was empty
        torch.testing.assert_close(found, bare(5.0).begin()(*pairs[k]))
    expected = run_through(bare(5.0, momentum=-0.6), conds[[0, 3]], unconds[[0, 3]])
    torch.testing.assert_close(torch.stack([first, after]), expected)


def test_images_of_a_batch_do_not_touch_each_other():
    conds, unconds = unit(3, 4, 3, 6, 5, seed=3), unit(3, 4, 3, 6, 5, seed=4)
    rule = bare(8.0, 0.3, 2.0, -0.5)
    together = run_through(rule, conds, unconds)
    for k in range(4):
        alone = run_through(rule, conds[:, k : k + 1], unconds[:, k : k + 1])
        torch.testing.assert_close(alone, together[:, k : k + 1], rtol=1e-13, atol=1e-13)


def test_runs_of_one_rule_share_no_state_in_any_thread():
    rule = bare(8.0, momentum=-0.5)
    conds, unconds = unit(20, 2, 3, 4, 4, seed=5), unit(20, 2, 3, 4, 4, seed=6)
    expected = run_through(rule, conds, unconds)
    assert torch.equal(run_through(rule, conds, unconds), expected)
    results = {}

    def work(k: int) -> None:
        results[k] = run_through(rule, conds, unconds)

    threads = [Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(results[k], expected) for k in range(4))


@pytest.mark.parametrize("raw", ["eps", "v", "velocity"])
def test_raw_space_is_the_same_algorithm_on_what_the_model_predicts(raw):
    level = Level(X_T, 0.6, 0.8)
    raws = [level.from_x0(raw, x0) for x0 in (COND, UNCOND)]
    rule = bare(6.0, 0.25, 1.5, space="raw")
    found = rule.begin(raw)(COND, UNCOND, x_t=X_T, alpha=0.6, sigma=0.8)
    there = bare(6.0, 0.25, 1.5).begin()(*raws)
    torch.testing.assert_close(level.from_x0(raw, found), there)
    assert not torch.allclose(found, bare(6.0, 0.25, 1.5).begin()(COND, UNCOND))


def test_raw_space_of_a_model_of_x0_is_x0_and_needs_its_level_otherwise():
    rule = bare(6.0, threshold=1.5, space="raw")
    plain = bare(6.0, threshold=1.5).begin()(COND, UNCOND)
    assert torch.equal(rule.begin("x0")(COND, UNCOND), plain)
    with pytest.raises(ValueError, match="needs x_t, alpha and sigma"):
        rule.begin("eps")(COND, UNCOND)


def test_the_two_forms_part_by_the_parallel_part():
    """Du + w u - (Dc + (w - 1) u) = -(1 - eta) par, whatever the scale."""
    for scale in (1.5, 8.0):
        paper, other = (
            bare(scale, 0.3, combine=combine).begin()(COND, UNCOND)
            for combine in ("cond", "uncond")
        )
        expected = -0.7 * parallel(COND - UNCOND, COND)
        torch.testing.assert_close(other - paper, expected)


def test_projections_are_float64():
    """A parallel part a million times smaller than the rest survives."""
    cond = torch.tensor([[1.0, 0.0]])
    d = torch.tensor([[1e-6, 1.0]])
    assert exact(cond).dtype == torch.float64
    torch.testing.assert_close(parallel(d, cond), torch.tensor([[1e-6, 0.0]]))
    assert parallel(d, cond).dtype == torch.float32


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"scale": -1}, "scale must be 0 or more"),
        ({"scale": float("nan")}, "scale must be 0 or more"),
        ({"threshold": -0.1}, "threshold must be 0 or more"),
        ({"threshold": 2.5}, "give threshold_mode="),
        ({"momentum": 1.0}, "momentum must lie between -1 and 1"),
        ({"momentum": -1.0}, "momentum must lie between -1 and 1"),
        ({"eta": float("inf")}, "eta must be"),
        ({"threshold_mode": "max"}, "threshold_mode must be one of"),
        ({"space": "eps"}, "space must be one of"),
        ({"combine": "both"}, "combine must be one of"),
    ],
)
def test_bad_arguments_are_named(arguments, named):
    with pytest.raises(ValueError, match=named):
        APG(**arguments)


def test_presets_are_the_recipes_of_configs():
    recipes = Path(__file__).parents[2] / "configs/guidance"
    named = {
        "apg-sdxl": presets.SDXL,
        "apg-edm2": presets.EDM2,
        "apg-dit-xl-2": FirstChannels(presets.DIT_XL_2, 4),
    }
    assert {path.stem for path in recipes.iterdir()} == set(named)
    for name, rule in named.items():
        settings = yaml.safe_load((recipes / f"{name}.yaml").read_text())
        assert build_rule(read_guidance(settings)) == rule

"""What ``memorization`` measures of denoisers and samples that are known in closed form."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import fmean, stdev

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from diffgen.commands.memorization.evidence import claim
from diffgen.commands.memorization.figures import linear_agreement, measure
from diffgen.commands.memorization.levels import decibels, measure_level
from diffgen.commands.memorization.pair import Pair
from diffgen.commands.memorization.plot import draw_plot
from diffgen.commands.memorization.table import markdown
from diffgen.config.memorization import MemorizationConfig
from diffgen.data.pixels import from_uint8, to_uint8
from diffgen.metrics.intervals import mean_interval
from diffgen.metrics.memorisation import correlation
from diffgen.metrics.wiener import fit_wiener
from diffgen.seeding import image_noise, stream_generator

SIZE = 3 * 8 * 8
CONFIG = MemorizationConfig(
    **{"data": {"size": "8x8"}, "num_images": 5, "num_noisy": 7, "jacobians": 3, "pictures": 1},
    **{"probes": 4, "sigmas": [2.0, 0.5, 1.0], "seed": 11},
)


@dataclass(frozen=True)
class Known(Pair):
    """Two denoisers (y, sigma) -> x, and what they draw."""

    denoisers: tuple[Callable[[Tensor, float], Tensor], Callable[[Tensor, float], Tensor]]
    drawn: tuple[Tensor, Tensor]

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    def denoiser(self, model: int, sigma: float) -> Callable[[Tensor], Tensor]:
        return lambda y: self.denoisers[model](y, sigma)

    def draw(self, model: int) -> Tensor:
        return self.drawn[model]


def images(count: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, 8, 8, generator=generator) * 2 - 1


def known(first=None, second=None, drawn=None, held_out=None, sizes=(4, 6)) -> Known:
    training = images(sizes[0], 0), images(sizes[1], 1)
    drawn = drawn or (images(5, 2), images(5, 3))
    held_out = images(7, 4) if held_out is None else held_out
    denoisers = first or (lambda y, _: y), second or (lambda y, _: y)
    return Known(CONFIG, (), ("", ""), training, held_out, denoisers, drawn)


def constant(value: float) -> Callable[[Tensor, float], Tensor]:
    return lambda y, _: value + 0 * y


def test_each_model_is_asked_about_its_own_training_images_and_about_those_held_out():
    pair = known(constant(0.3), constant(-0.6))
    values = measure_level(pair, 1.0, None).values
    for model, answer, count in ((0, 0.3, 4), (1, -0.6, 6)):
        for side, sets in (("train", pair.training[model]), ("held_out", pair.held_out)):
            shown = [sets[k % count] if side == "train" else sets[k] for k in range(7)]
            wanted = [float((one.double() - answer).square().mean()) for one in shown]
            assert values[side][model] == pytest.approx(wanted, abs=1e-6)


def test_noise_has_the_level_asked_for_and_is_the_same_on_both_sides():
    values = measure_level(known(), 0.5, None).values  # D(y) = y leaves the noise
    noise = torch.stack(
        [torch.randn(3, 8, 8, generator=stream_generator(11, "noisy", k)) for k in range(7)]
    )
    wanted = [0.25 * float(one.square().mean()) for one in noise]
    for model in (0, 1):
        assert values["train"][model] == pytest.approx(wanted, rel=1e-5)
        assert values["held_out"][model] == pytest.approx(wanted, rel=1e-5)


def test_the_linear_denoiser_of_each_set_is_asked_about_the_same():
    pair = known()
    linear = fit_wiener(pair.training[0]), fit_wiener(pair.training[1])
    level, noise = measure_level(pair, 1.0, linear), pair.noise()
    for model, own in enumerate(pair.training):
        shown = own[torch.arange(7) % len(own)]
        for side, x in (("linear_train", shown), ("linear_held_out", pair.held_out)):
            wanted = (linear[model](x + noise, 1.0) - x).double().square().mean((1, 2, 3))
            assert level.values[side][model] == pytest.approx(wanted.tolist())
    assert level.figures["linear_dimension"] == linear[0].effective_dimension(1.0)
    assert level.figures["linear_gap"]["psnr"] > 3


def test_a_psnr_is_that_of_the_mean_error_and_a_gap_is_paired_by_noise():
    errors = {"train": [[0.1, 0.3], [0.3, 0.1]], "held_out": [[0.4, 0.6], [0.2, 0.8]]}
    train, held_out = decibels(errors, "train"), decibels(errors, "held_out")
    assert train["psnr"] == pytest.approx(10 * math.log10(4 / 0.2))
    assert train["interval"] == pytest.approx((train["psnr"], train["psnr"]))  # means over models
    assert held_out["psnr"] == pytest.approx(10 * math.log10(4 / 0.5))
    slope = 10 / math.log(10)
    parts = [held_out["psnr"] - slope * (one / 0.5 - 1) for one in (0.3, 0.7)]
    assert held_out["interval"] == pytest.approx(mean_interval(parts))
    gap = decibels(errors, "train", "held_out")
    assert gap["psnr"] == pytest.approx(10 * math.log10(0.5 / 0.2))
    assert gap["interval"] == pytest.approx(mean_interval([train["psnr"] - one for one in parts]))
    assert decibels({"train": [[0.0], [0.0]]}, "train") is None
    assert decibels(errors, "linear_train") is None


def test_dimensions_are_means_over_the_noisy_held_out_images_of_the_first_model():
    """D(y) = |y|^2 y / d has the Jacobian (|y|^2 I + 2 y y^T) / d."""

    def cubic(y: Tensor, _: float) -> Tensor:
        return y.square().sum((1, 2, 3), keepdim=True) * y / SIZE

    pair = known(cubic, constant(0.0))
    level = measure_level(pair, 2.0, None)
    rows = (pair.held_out + 2 * pair.noise()).flatten(1)[:3].double()
    exact = [float(y @ y) * (1 + 2 / SIZE) for y in rows]
    found = level.figures["dimension"]
    assert level.values["traces"] == pytest.approx(exact, rel=1e-4)
    assert found["exact"] == pytest.approx(fmean(exact), rel=1e-4)
    assert found["exact_error"] == pytest.approx(stdev(exact) / 3**0.5, rel=1e-3)
    estimates, errors = [], []
    for k, y in enumerate(rows):
        generator = stream_generator(11, "probes", k)
        signs = (2 * torch.randint(2, (4, SIZE), generator=generator) - 1).double()
        draws = float(y @ y) + 2 * (signs @ y).square() / SIZE
        estimates.append(float(draws.mean()))
        errors.append(float(draws.std()) / 4**0.5)
    assert level.values["estimated_traces"] == pytest.approx(estimates, rel=1e-4)
    assert found["estimated"] == pytest.approx(fmean(estimates), rel=1e-4)
    assert found["estimated_error"] == pytest.approx(stdev(estimates) / 3**0.5, rel=1e-3)
    probes = math.sqrt(sum(one**2 for one in errors)) / 3
    assert found["probe_error"] == pytest.approx(probes, rel=1e-2)
    assert found["asymmetry"] < 1e-4
    assert found["affine_residual"] == pytest.approx(2, rel=1e-3)  # J y = 3 D(y)
    first = (rows[0] @ rows[0] * torch.eye(SIZE) + 2 * torch.outer(rows[0], rows[0])) / SIZE
    assert torch.allclose(level.jacobian.double(), first, rtol=1e-3, atol=1e-3)


def test_samples_are_compared_with_their_own_sets_and_the_control_with_the_others():
    pair = known(sizes=(5, 6))
    a, b = pair.training
    b[3] = a[1]  # one image is in both sets
    held_out = images(7, 4)
    held_out[2], held_out[5] = a[4], b[0]  # only a copy of a's set counts
    pair = Known(CONFIG, (), ("", ""), (a, b), held_out, pair.denoisers, (a, b[:5]))
    found = measure(pair)
    assert found.values["nearest_own"][0] == pytest.approx([1.0] * 5)
    assert found.values["nearest_own"][1] == pytest.approx([1.0] * 5)
    every = np.corrcoef(a.flatten(1), b.flatten(1))[:5, 5:]
    assert found.values["control"] == pytest.approx(every.max(1), abs=1e-6)
    assert found.values["control"].index(max(found.values["control"])) == 1
    assert found.values["agreement"] == pytest.approx(every.diagonal(), abs=1e-6)
    assert found.values["memorised"] == [[True] * 5] * 2
    assert found.values["memorised_held_out"] == [k == 2 for k in range(7)]
    assert found.figures["memorised"]["b"]["hits"] == 5
    assert found.figures["memorised_held_out"]["share"] == 1 / 7
    assert torch.equal(found.nearest, a)
    assert [level["sigma"] for level in found.figures["levels"]] == [0.5, 1.0, 2.0]
    assert found.jacobian.tolist() == torch.eye(SIZE).tolist()


def test_linear_draws_are_compared_as_8_bit_pictures():
    pair = known()
    linear = fit_wiener(3 * pair.training[0]), fit_wiener(3 * pair.training[1])  # beyond [-1, 1]
    noise = image_noise(11, list(range(5)), (3, 8, 8))
    draws = [one.draw(noise) for one in linear]
    clipped = correlation(*(from_uint8(to_uint8(one)) for one in draws))
    assert torch.equal(linear_agreement(pair, linear), clipped)
    assert float((clipped - correlation(*draws)).abs().max()) > 0.01


def test_a_dimension_below_0_is_drawn_and_told(tmp_path):
    found = measure(known(lambda y, _: -2 * y)).figures
    assert found["levels"][0]["dimension"]["exact"] == pytest.approx(-2 * SIZE)
    draw_plot({4: found, 16: found})(tmp_path / "plot.png")
    with Image.open(tmp_path / "plot.png") as picture:
        assert min(picture.size) > 400
    assert f"| 4 | 0.5 | -{2 * SIZE}.0 ± 0.0 |" in "\n".join(markdown({4: found}))


def measured(agreement: float, own: float, copies: int, gap: float) -> dict:
    """The content of N.json with these means, about which values vary by a tenth."""
    rng, config = np.random.default_rng(round(10 * gap)), CONFIG

    def around(mean: float) -> list[float]:
        return (mean + 0.1 * rng.standard_normal(40)).tolist()

    train, held_out = 0.1 + 0.01 * rng.random((2, 40))
    held_out *= train.mean() / held_out.mean() * 10 ** (gap / 10)
    errors = {"train": [train.tolist()] * 2, "held_out": [held_out.tolist()] * 2}
    values = {
        "agreement": around(agreement),
        "nearest_own": [around(own), around(own)],
        "control": around(0.5),
        "linear_agreement": around(0.6),
        "levels": [{"sigma": sigma, **errors} for sigma in config.levels()],
    }
    share = {"hits": copies, "count": 40}
    return {"values": values, "memorised": {"a": share, "b": share}, "settings": {}}


FEW = (0.1, 0.95, 39, 9.0)
MANY = (0.9, 0.5, 0, 0.5)


def test_the_claim_holds_of_a_transition():
    evidence = claim(CONFIG, {4: measured(*FEW), 64: measured(*MANY)}).judged()
    decisive = [one for one in evidence.comparisons if one.role == "decisive"]
    assert [one.verdict for one in decisive] == ["holds"] * 5
    assert evidence.verdict == "holds"
    assert evidence.seeds == [11, 11 + 2**31]
    gap = decisive[-1]
    assert (fmean(gap.other), fmean(gap.this)) == pytest.approx((9.0, 0.5), abs=0.01)


@pytest.mark.parametrize(
    ("few", "many"),
    [
        (FEW, FEW),  # everything is memorised
        (MANY, MANY),  # nothing is
        (FEW, (0.3, 0.5, 0, 0.5)),  # no copies, but no agreement either
        (FEW, (0.9, 0.5, 0, 12.0)),  # the gap grows
    ],
)
def test_the_claim_fails_without_a_part_of_it(few, many):
    evidence = claim(CONFIG, {4: measured(*few), 64: measured(*many)}).judged()
    assert evidence.verdict == "fails"

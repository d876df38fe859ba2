"""Rebuilding averages of any width from stored ones: the algebra, and on a real training."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from diffgen import DiT
from diffgen.config.ema import PowerEMAConfig
from diffgen.config.model import DiTConfig
from diffgen.config.optimizer import AdamWConfig, MuonConfig, ScheduleConfig
from diffgen.config.process import FlowConfig
from diffgen.data.shapes import Shapes
from diffgen.errors import UserError
from diffgen.processes import build_process
from diffgen.training.ema import EMA, gamma_of_width
from diffgen.training.optimizers import build_optimizers, build_schedules
from diffgen.training.posthoc import (
    LARGEST_ERROR,
    Profile,
    coefficients,
    expected_error,
    overlap,
    profiles,
    rebuild,
    snapshots_around,
)
from diffgen.training.step import Objective

STEPS, BATCH, SNAPSHOTS = 320, 16, 8
TRACKED = (0.05, 0.10)
EMA_CONFIG = PowerEMAConfig(widths=TRACKED)
WIDTHS = (0.04, 0.06, 0.075, 0.125, 0.15, 0.20)
TIMES = {"middle, at a snapshot": 160, "middle, between": 180, "late, between": 300, "end": 320}
"""In steps; snapshots are 40 steps apart."""


def remainder(p: Profile, s: np.ndarray) -> np.ndarray:
    """1 - P(s): the share of the profile that is still to come."""
    return 1 - np.minimum(s / p.seen, 1.0) ** (gamma_of_width(p.width) + 1)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (Profile(0.05, 1000), Profile(0.05, 1000)),
        (Profile(0.05, 1000), Profile(0.10, 1000)),
        (Profile(0.05, 1000), Profile(0.10, 700)),
        (Profile(0.25, 300), Profile(0.10, 1000)),
    ],
)
def test_the_overlap_is_the_integral_of_the_product(a, b):
    s = (np.arange(200_000) + 0.5) * 1000 / 200_000
    expected = (remainder(a, s) * remainder(b, s)).sum() * 1000 / 200_000
    assert overlap(a, b) == pytest.approx(expected, rel=1e-6)
    assert overlap(b, a) == pytest.approx(overlap(a, b), rel=1e-12)


def stored_profiles(count: int = SNAPSHOTS) -> list[Profile]:
    every = STEPS * BATCH // SNAPSHOTS
    return [Profile(width, every * k) for k in range(1, count + 1) for width in TRACKED]


def test_a_stored_average_is_taken_as_it_is():
    stored = stored_profiles()
    for index, wanted in enumerate(stored):
        np.testing.assert_array_equal(coefficients(stored, wanted), np.eye(len(stored))[index])
        assert expected_error(stored, wanted) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("seen", [STEPS * BATCH, STEPS * BATCH - 300])
@pytest.mark.parametrize("width", [0.04, 0.07, 0.13, 0.25])
def test_no_other_shares_that_sum_to_one_are_closer(width, seen):
    stored, wanted = stored_profiles(), Profile(width, seen)
    shares = coefficients(stored, wanted)
    assert shares.sum() == pytest.approx(1, abs=1e-12)
    s = (np.arange(20_000) + 0.5) * STEPS * BATCH / 20_000
    columns = np.array([remainder(p, s) for p in stored])
    target = remainder(wanted, s)
    least = np.linalg.norm(shares @ columns - target)
    rng = np.random.default_rng(0)
    for size in (1e-4, 1e-2, 1):
        change = rng.normal(size=len(stored)) * size
        assert np.linalg.norm((shares + change - change.mean()) @ columns - target) > least


def test_the_expected_error_is_that_of_random_walks():
    """Of 300 walks, by the shares on the exact weights of discrete averages."""
    stored, wanted = stored_profiles(), Profile(0.075, 280 * BATCH + 20 * BATCH)
    steps = np.arange(1, STEPS + 1) * BATCH

    def kernel(p: Profile) -> np.ndarray:
        return remainder(p, steps - BATCH) - remainder(p, steps)

    walks = np.random.default_rng(0).normal(size=(300, STEPS)).cumsum(axis=1)
    direct = walks @ kernel(wanted)
    mixed = walks @ (coefficients(stored, wanted) @ np.array([kernel(p) for p in stored]))
    raw = walks[:, wanted.seen // BATCH - 1]
    found = np.sqrt(((mixed - direct) ** 2).mean() / ((raw - direct) ** 2).mean())
    assert expected_error(stored, wanted) == pytest.approx(found, rel=0.15)


@dataclass(frozen=True)
class Followed:
    """A training whose averages of many widths were tracked directly."""

    averages: dict[tuple[float, int], dict[str, torch.Tensor]]
    """By width and images seen."""
    weights: dict[int, torch.Tensor]


def flat(tensors: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat([tensors[name].double().flatten() for name in sorted(tensors)])


def follow(optimizer: AdamWConfig | MuonConfig) -> Followed:
    """320 steps of a small transformer on drawn shapes; seed 0, a cosine to zero."""
    torch.manual_seed(0)
    model = DiT(
        sample_size=(16, 16), patch_size=4, hidden_size=32, depth=1, num_heads=2, num_classes=8
    )
    recipe = DiTConfig()
    process = build_process(FlowConfig(), recipe.time, recipe.prediction)
    objective = Objective(process, 0, 8, 0.1, torch.device("cpu"))
    pictures, labels = zip(*(Shapes(16, 16, "train")[i] for i in range(512)), strict=True)
    optimizers = build_optimizers(optimizer, model)
    schedules = build_schedules(ScheduleConfig(warmup_images=256), optimizers, STEPS * BATCH, BATCH)
    pairs = [TRACKED, *zip(WIDTHS[::2], WIDTHS[1::2], strict=True), (0.03, 0.25)]
    emas = [EMA(PowerEMAConfig(widths=pair), model) for pair in pairs]
    averages, weights = {}, {}
    for step in range(1, STEPS + 1):
        numbers = [i % 512 for i in range((step - 1) * BATCH, step * BATCH)]
        batch = {
            "image": torch.stack([pictures[i] for i in numbers]),
            "label": torch.tensor([labels[i] for i in numbers]),
            "number": torch.arange((step - 1) * BATCH, step * BATCH),
        }
        objective(model, batch).backward()
        for one in optimizers:
            one.step()
            one.zero_grad()
        for one in schedules:
            one.step()
        for ema, pair in zip(emas, pairs, strict=True):
            ema.update(model, step * BATCH, BATCH)
            if step % (STEPS // SNAPSHOTS) == 0 or step in TIMES.values():
                for width, average in zip(pair, ema.averages, strict=True):
                    kept = {name: tensor.clone() for name, tensor in average.weights.items()}
                    averages[width, step * BATCH] = kept
        weights[step * BATCH] = flat({n: p.detach() for n, p in model.named_parameters()})
    return Followed(averages, weights)


@pytest.fixture(scope="module", params=[AdamWConfig(), MuonConfig()], ids=["adamw", "muon"])
def training(request, tmp_path_factory):
    """The training, and the folder of its snapshots of two widths."""
    followed, folder = follow(request.param), tmp_path_factory.mktemp("snapshots")
    for k in range(1, SNAPSHOTS + 1):
        seen = STEPS * BATCH // SNAPSHOTS * k
        tensors = {
            f"power-{width:g}/{name}": tensor
            for width in TRACKED
            for name, tensor in followed.averages[width, seen].items()
        }
        save_file(tensors, folder / f"{seen:09d}.safetensors")
    return followed, folder


def errors(training, width: float, seen: int) -> tuple[float, float]:
    """Distance of the rebuilt from the tracked average: as a share of the tracked one's norm, and
    of its distance from the weights of that moment."""
    followed, folder = training
    files = snapshots_around(folder, seen, "images")
    rebuilt = flat(rebuild(files, EMA_CONFIG, Profile(width, seen), "width"))
    tracked = flat(followed.averages[width, seen])
    error = (rebuilt - tracked).norm()
    away = (followed.weights[seen] - tracked).norm()
    return (error / tracked.norm()).item(), (error / away).item()


def test_a_width_in_between_is_rebuilt_between_snapshots_within_one_percent(training):
    """Here 0.2 % and 0.7 % at worst; see the table in docs/averages.md (-s prints it)."""
    for where, step in TIMES.items():
        found = {width: errors(training, width, step * BATCH) for width in WIDTHS}
        told = "  ".join(f"{w:g}: {norm:.3%} {away:.2%}" for w, (norm, away) in found.items())
        print(f"\n{where:22}{told}", end="")
        assert max(norm for norm, _ in found.values()) < 0.01
        if "between" not in where:
            assert max(away for _, away in found.values()) < 0.05


def edm2_coefficients(stored: list[Profile], wanted: Profile) -> np.ndarray:
    """Least squares of the profiles themselves (Karras et al. 2024, appendix C), their sum 1."""

    def product(a: Profile, b: Profile) -> float:
        a, b = sorted((a, b), key=lambda p: p.seen)
        first, second = gamma_of_width(a.width), gamma_of_width(b.width)
        ratio = (a.seen / b.seen) ** second / b.seen
        return (first + 1) * (second + 1) / (first + second + 1) * ratio

    gram = np.array([[product(a, b) for b in stored] for a in stored])
    scale = 1 / np.sqrt(np.diag(gram))
    target = np.array([product(a, wanted) for a in stored])
    solution = np.linalg.lstsq(gram * np.outer(scale, scale), target * scale, rcond=None)[0] * scale
    return solution / solution.sum()


def test_fitting_what_is_to_come_is_nearer_than_fitting_the_profiles(training):
    followed, folder = training
    for where, step in TIMES.items():
        for width in WIDTHS:
            seen = step * BATCH
            files = snapshots_around(folder, seen, "images")
            stored = profiles(files, EMA_CONFIG)
            shares = edm2_coefficients(stored, Profile(width, seen))
            every = [flat(followed.averages[one.width, one.seen]) for one in stored]
            tracked = flat(followed.averages[width, seen])
            mixed = sum(share * one for share, one in zip(shares, every, strict=True))
            by_profiles = (mixed - tracked).norm() / (followed.weights[seen] - tracked).norm()
            print(f"\n{where:22}{width:g}: {by_profiles:.2%}", end="")
            assert errors(training, width, seen)[1] < by_profiles


def test_between_snapshots_the_one_after_is_needed(training):
    _, folder = training
    seen = TIMES["middle, between"] * BATCH
    files = snapshots_around(folder, seen, "images")
    assert [int(file.stem) for file in files[-2:]] == [160 * BATCH, 200 * BATCH]
    with pytest.raises(UserError, match=r"width 0\.075 cannot be rebuilt from 4 snapshots"):
        rebuild(files[:-1], EMA_CONFIG, Profile(0.075, seen), "width")


def test_what_is_refused_could_not_be_rebuilt(training):
    """Narrow widths lie beyond what two wider ones and their times can tell."""
    with pytest.raises(UserError, match=r"width 0\.01 cannot be rebuilt from 8 snapshots"):
        errors(training, 0.01, STEPS * BATCH)
    norm, away = errors(training, 0.25, STEPS * BATCH)
    assert norm < 0.01
    assert away < LARGEST_ERROR


def test_a_time_out_of_reach_is_named(training, tmp_path):
    _, folder = training
    for seen in (639, 5121):
        with pytest.raises(UserError, match=f"images: {seen} images, but .* from 640 to 5120"):
            snapshots_around(folder, seen, "images")
    with pytest.raises(UserError, match="images: no snapshot in"):
        snapshots_around(tmp_path, 100, "images")


def test_a_tracked_average_is_bit_for_bit_that_of_its_snapshot(training):
    followed, folder = training
    for width in TRACKED:
        for seen in (STEPS * BATCH, 160 * BATCH):
            files = snapshots_around(folder, seen, "images")
            rebuilt = rebuild(files, EMA_CONFIG, Profile(width, seen), "width")
            for name, tensor in followed.averages[width, seen].items():
                assert torch.equal(rebuilt[name], tensor)

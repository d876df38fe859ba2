"""The torchmetrics face: equal to the pure function, exact over processes, always float64."""

import os
import subprocess
import sys
from copy import deepcopy
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import diffgen.metrics
from diffgen.metrics import FrechetDistance, frechet_distance, precision_recall
from diffgen.metrics.faces import OnFeatures
from diffgen.metrics.kernel import kernel_distance


def features(count: int, seed: int, size: int = 6) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, size, generator=generator) + 0.1 * seed


def filled(real: Tensor, fake: Tensor, batch: int = 16) -> FrechetDistance:
    metric = FrechetDistance(None, real.shape[1])
    for rows in real.split(batch):
        metric.update(rows, real=True)
    for rows in fake.split(batch):
        metric.update(rows, real=False)
    return metric


def test_equals_the_pure_function():
    real, fake = features(50, 1), features(70, 2)
    value = filled(real, fake).compute()
    assert value.dtype == torch.float64
    assert value.item() == pytest.approx(frechet_distance(real, fake), abs=1e-10)


def test_extractor_runs_in_evaluation_mode_and_without_gradients():
    extractor = nn.Sequential(nn.Flatten(), nn.Linear(12, 6), nn.BatchNorm1d(6), nn.Dropout(0.5))
    metric = FrechetDistance(extractor, 6).train()
    real, fake = torch.rand(30, 3, 2, 2), torch.rand(40, 3, 2, 2)
    metric.update(real, real=True)
    metric.update(fake, real=False)
    assert not metric.real_outer.requires_grad
    expected = frechet_distance(extractor.eval()(real), extractor(fake))
    assert metric.compute().item() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    "cast",
    [
        lambda metric: metric.half(),
        lambda metric: metric.to(torch.float32),
        lambda metric: metric.to(torch.float16),
        lambda metric: metric.to("cpu", torch.bfloat16),
        lambda metric: metric.set_dtype(torch.float32),
        lambda metric: nn.ModuleList([metric]).half()[0],
        lambda metric: nn.ModuleList([metric]).to(torch.float16)[0],
    ],
)
def test_states_stay_float64_through_casts(cast):
    real, fake = features(50, 3), features(50, 4)
    metric = filled(real, fake)
    before = metric.compute().item()
    metric = cast(metric)
    assert metric.compute().item() == before
    assert metric.compute().dtype == torch.float64
    metric.reset()
    assert metric.real_outer.dtype == metric.fake_sum.dtype == torch.float64
    assert metric.real_count.dtype == torch.int64


def test_a_cast_reaches_the_extractor():
    metric = FrechetDistance(nn.Linear(4, 6), 6).to(torch.float16)
    assert metric.feature.weight.dtype == torch.float16
    metric.update(torch.rand(5, 4, dtype=torch.float16), real=True)
    assert metric.real_sum.dtype == torch.float64


def test_states_of_two_processes_add_up():
    real, fake = features(50, 5), features(61, 6)
    metric = filled(real[:20], fake[:31])
    metric.merge_state(filled(real[20:], fake[31:]))
    assert int(metric.fake_count) == 61
    assert metric.compute().item() == pytest.approx(frechet_distance(real, fake), abs=1e-10)


def test_reset_forgets_everything():
    real, fake = features(50, 7), features(50, 8)
    metric = filled(features(9, 9), features(9, 10))
    metric.reset()
    metric.update(real, real=True)
    metric.update(fake, real=False)
    assert metric.compute().item() == pytest.approx(frechet_distance(real, fake), abs=1e-10)


def test_unusable_input_is_refused():
    with pytest.raises(ValueError, match="num_features must be at least 1, got 0"):
        FrechetDistance(None, 0)
    metric = FrechetDistance(None, 6)
    with pytest.raises(ValueError, match=r"features must be \(N, 6\), got \(4, 5\)"):
        metric.update(torch.zeros(4, 5), real=True)
    metric.update(features(4, 11), real=True)
    metric.update(features(1, 12), real=False)
    with pytest.raises(ValueError, match=r"fake images: .*at least 2 feature rows, got 1"):
        metric.compute()
    metric.update(torch.full((3, 6), torch.nan), real=False)
    with pytest.raises(ValueError, match="fake images: mean holds NaN"):
        metric.compute()


def filled_with(function, real: Tensor, fake: Tensor, batch: int = 16) -> OnFeatures:
    metric = OnFeatures(function, None, real.shape[1])
    for rows in real.split(batch):
        metric.update(rows, real=True)
    for rows in fake.split(batch):
        metric.update(rows, real=False)
    return metric


def test_a_function_of_two_sets_gives_its_own_figure():
    real, fake = features(50, 15), features(70, 16)
    value = filled_with(kernel_distance, real, fake).compute()
    assert value.dtype == torch.float64
    assert value.item() == kernel_distance(real, fake)


def test_a_function_with_several_figures_gives_them_by_name():
    real, fake = features(50, 17), 0.8 * features(70, 17)
    found = filled_with(partial(precision_recall, k=5), real, fake).compute()
    expected = precision_recall(real, fake, k=5)
    assert {name: value.item() for name, value in found.items()} == vars(expected)
    assert found["precision"].dtype == torch.float64
    assert found["precision"] != found["recall"]


def test_a_network_makes_the_features_in_evaluation_mode():
    extractor = nn.Sequential(nn.Flatten(), nn.Linear(12, 6), nn.Dropout(0.5))
    metric = OnFeatures(kernel_distance, extractor, 6).train()
    real, fake = torch.rand(30, 3, 2, 2), torch.rand(40, 3, 2, 2)
    metric.update(real, real=True)
    metric.update(fake, real=False)
    assert not metric.real_features[0].requires_grad
    expected = kernel_distance(extractor.eval()(real), extractor(fake))
    assert metric.compute().item() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    "cast",
    [
        lambda metric: metric.half(),
        lambda metric: metric.to(torch.float32),
        lambda metric: metric.to(torch.float16),
        lambda metric: metric.set_dtype(torch.float16),
        lambda metric: nn.ModuleList([metric]).to("cpu", torch.bfloat16)[0],
    ],
)
def test_kept_features_stay_float32_through_casts(cast):
    real, fake = features(50, 18), features(50, 19)
    metric = cast(filled_with(kernel_distance, real, fake))
    assert {rows.dtype for rows in metric.real_features + metric.fake_features} == {torch.float32}
    assert metric.compute().item() == kernel_distance(real, fake)
    assert metric.compute().dtype == torch.float64


def test_kept_features_stay_on_the_cpu_where_the_metric_does_not():
    """The meta device holds no numbers: features that went there would be lost."""
    real, fake = features(50, 20), features(50, 21)
    metric = filled_with(kernel_distance, real, fake).to("meta")
    assert metric.device.type == "meta"
    torch.testing.assert_close(torch.cat(metric.real_features), real, rtol=0, atol=0)
    torch.testing.assert_close(torch.cat(metric.fake_features), fake, rtol=0, atol=0)


def test_kept_features_are_copies_of_what_the_caller_goes_on_to_overwrite():
    metric = OnFeatures(kernel_distance, None, 6)
    real, fake, batch = features(9, 22), features(9, 23), torch.empty(9, 6)
    metric.update(batch.copy_(real), real=True)
    metric.update(batch.copy_(fake), real=False)
    assert metric.compute().item() == kernel_distance(real, fake)


def test_kept_features_of_two_processes_are_joined_and_forgotten_on_reset():
    real, fake = features(50, 24), features(61, 25)
    metric = filled_with(kernel_distance, real[:20], fake[:31])
    metric.merge_state(filled_with(kernel_distance, real[20:], fake[31:]))
    expected = kernel_distance(real, fake)
    assert metric.compute().item() == pytest.approx(expected, rel=1e-12)
    copied = deepcopy(metric)
    metric.reset()
    assert metric.real_features == metric.fake_features == []
    assert copied.compute().item() == pytest.approx(expected, rel=1e-12)


def test_a_function_of_two_sets_refuses_what_the_functions_refuse():
    with pytest.raises(ValueError, match="num_features must be at least 1, got 0"):
        OnFeatures(kernel_distance, None, 0)
    metric = OnFeatures(kernel_distance, None, 6)
    with pytest.raises(ValueError, match=r"features must be \(N, 6\), got \(4, 5\)"):
        metric.update(torch.zeros(4, 5), real=True)
    metric.update(features(4, 26), real=True)
    with pytest.raises(ValueError, match="fake needs at least 2 rows, got 0"):
        metric.compute()
    metric.update(torch.full((3, 6), torch.nan), real=False)
    with pytest.raises(ValueError, match="fake holds NaN"):
        metric.compute()


TWO_PROCESSES = """
import sys
import torch
import torch.distributed as dist
from diffgen.metrics import FrechetDistance
from diffgen.metrics.faces import OnFeatures
from diffgen.metrics.kernel import kernel_distance

dist.init_process_group("gloo")
rank, world = dist.get_rank(), dist.get_world_size()
assert world == 2, world
data = torch.load(sys.argv[1], weights_only=True)
metric = FrechetDistance(None, data["real"].shape[1])
metric.update(data["real"][rank::world], real=True)
metric.update(data["fake"][rank::world], real=False)
value = metric.compute()

# Kept features: the second process has no fake image, and is cast besides.
kept = OnFeatures(kernel_distance, None, data["real"].shape[1])
kept.update(data["real"][rank::world], real=True)
if rank == 0:
    kept.update(data["fake"], real=False)
else:
    kept.to(torch.float16)
kernel = kept.compute()
rows = sum(len(part) for part in kept.real_features)  # its own again after the exchange
with open(f"{sys.argv[2]}/{rank}.txt", "w") as file:
    file.write(f"{world} {value.item()!r} {kernel.item()!r} {rows}")
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_two_gloo_processes(tmp_path):
    real, fake = features(50, 13), features(61, 14)
    torch.save({"real": real, "fake": fake}, tmp_path / "data.pt")
    script = tmp_path / "two.py"
    script.write_text(TWO_PROCESSES)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    done = subprocess.run(
        [*launch, str(script), str(tmp_path / "data.pt"), str(tmp_path)],
        cwd=Path(__file__).parents[2],
        env={**launch_environment(), "TMPDIR": str(tmp_path)},  # for the launcher's logs
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for rank in range(2):
        world, value, kernel, rows = (tmp_path / f"{rank}.txt").read_text().split()
        assert (world, rows) == ("2", "25")
        assert float(value) == pytest.approx(frechet_distance(real, fake), abs=1e-9)
        assert float(kernel) == pytest.approx(kernel_distance(real, fake), rel=1e-10)


def launch_environment() -> dict[str, str]:
    """A child process finds the package by path, wherever it and pytest were started."""
    root = str(Path(__file__).parents[2])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}


def test_public_names_load_on_first_use():
    code = "import diffgen.metrics, sys; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=launch_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "False"
    assert set(diffgen.metrics.__all__) <= set(dir(diffgen.metrics))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = diffgen.metrics.nothing

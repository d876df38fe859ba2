"""The torchmetrics face: equal to the pure function, exact over processes, always float64."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import diffgen.metrics
from diffgen.metrics import FrechetDistance, frechet_distance


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


TWO_PROCESSES = """
import sys
import torch
import torch.distributed as dist
from diffgen.metrics import FrechetDistance

dist.init_process_group("gloo")
rank, world = dist.get_rank(), dist.get_world_size()
assert world == 2, world
data = torch.load(sys.argv[1], weights_only=True)
metric = FrechetDistance(None, data["real"].shape[1])
metric.update(data["real"][rank::world], real=True)
metric.update(data["fake"][rank::world], real=False)
value = metric.compute()
with open(f"{sys.argv[2]}/{rank}.txt", "w") as file:
    file.write(f"{world} {value.item()!r}")
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
        world, value = (tmp_path / f"{rank}.txt").read_text().split()
        assert world == "2"
        assert float(value) == pytest.approx(frechet_distance(real, fake), abs=1e-9)


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

"""What only a GPU can show: steps that never wait, bf16, compiled blocks, whole trainings."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from benchmarks.training_rows import ROWS, open_training
from diffgen.config.model import TimeConvention
from diffgen.config.process import FlowConfig
from diffgen.models.compiled import compile_blocks
from diffgen.processes import build_process
from diffgen.training.step import Objective
from tests.logs import curve
from tests.tiny import build

ROOT = Path(__file__).parents[2]
CUDA = torch.device("cuda")
pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning"),
]


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("size", ["demo", "S"])
def test_a_step_is_queued_without_waiting_for_the_one_before(size, compiled):
    training = open_training(size, CUDA, 4, compiled)
    for name in ("eager", "checkpointed", "routed"):
        loop = training.loop(ROWS[name])
        with training.switched(ROWS[name]):
            for _ in range(2):
                training.step(loop)
            torch.cuda.set_sync_debug_mode("error")
            try:
                training.step(loop)
            finally:
                torch.cuda.set_sync_debug_mode("default")


SIDES = {"one size": [(8, 12)] * 16, "packed": [(8, 8), (4, 16), (12, 8), (4, 4)] * 4}
SIDES["padded"] = SIDES["packed"]


def gradients(
    position: str, sizes: str, half: bool, device: torch.device, compiled: bool = False
) -> dict[str, torch.Tensor]:
    """Loss and gradients of one batch; ``half``: under bf16 autocast."""
    model = build(position={"kind": position}).transformer.to(device).train()
    if compiled:
        compile_blocks(model)
    generator = torch.Generator().manual_seed(0)
    images = [torch.randn(3, *sides, generator=generator) for sides in SIDES[sizes]]
    batch = {
        "image": torch.stack(images) if sizes == "one size" else images,
        "crop": torch.zeros(16, 4),
        "label": torch.arange(16) % 3,
        "number": torch.arange(16),
    }
    process = build_process(FlowConfig(), TimeConvention(), "velocity")
    objective = Objective(process, 0, 3, 0.1, device, patch=2, padded=sizes == "padded")
    with torch.autocast(device.type, torch.bfloat16, enabled=half):
        loss = objective(model, batch)
    loss.backward()
    found = {name: p.grad.float().cpu() for name, p in model.named_parameters()}
    return {"loss": loss.detach().float().cpu(), **found}


@pytest.mark.parametrize("position", ["sincos", "rope"])
@pytest.mark.parametrize(
    ("sizes", "compiled"),
    [("one size", False), ("one size", True), ("packed", False), ("padded", False)],
)
def test_losses_and_gradients_are_those_of_the_cpu(position, sizes, compiled):
    expected = gradients(position, sizes, half=False, device=torch.device("cpu"))
    whole = gradients(position, sizes, half=False, device=CUDA, compiled=compiled)
    low = gradients(position, sizes, half=True, device=CUDA, compiled=compiled)
    for name, one in expected.items():
        scale = one.norm()
        assert (whole[name] - one).norm() <= 1e-3 * scale, name
        assert (low[name] - one).norm() <= 0.05 * scale, name
    assert any(not torch.equal(low[name], whole[name]) for name in expected)


SMALL = [
    "--data.size", "16x16", "--model.depth", "2", "--model.hidden-size", "64",
    "--model.num-heads", "2", "--train.batch-size", "32", "--train.log-images", "64",
    "--train.checkpoint-images", "128", "--train.sample-images", "128",
    "--schedule.warmup-images", "64", "--sampling.steps", "2", "--sampling.batch-size", "16",
    "--validation.every-images", "128", "--validation.images", "64",
    "--validation.fid-every-images", "256", "--validation.fid-images", "64",
    "--report.num-images", "64", "--report.sizes", "16x24", "--train.precision", "bf16",
    "--device", "cuda",
]  # fmt: skip


def test_a_training_is_stopped_goes_on_and_is_drawn_from(told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    switches = ["--train.compile", "--train.gradient-checkpointing"]
    told("train", *SMALL, *switches, "--out", "run", "--train.images", "192")
    told("train", *SMALL, *switches, "--out", "run", "--train.images", "256")
    lines = curve(tmp_path / "run")
    assert [line["images"] for line in lines] == [64, 128, 192, 256]
    last = json.loads((tmp_path / "run/metrics.jsonl").read_text().splitlines()[-1])
    assert last["memory_gib"] > 0
    assert 0 < last["mfu"] < 1
    assert "256" in told("status", "run")
    told("sample", "run", "--size", "24x16", "--num-images", "4", "--out", "drawn")
    assert len(list((tmp_path / "drawn/24x16").glob("*.png"))) == 4


def test_a_split_training_on_nccl_goes_on_and_exports(tmp_path):
    world = min(2, torch.cuda.device_count())
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    launch += ["--nproc_per_node", str(world), str(ROOT / "train/dit.py"), *SMALL]
    launch += ["--optimizer.kind", "adamw", "--train.sharding", "full", "--out", "run"]
    for images in ("128", "256"):
        argv = [*launch, "--train.images", images]
        done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
    assert [line["processes"] for line in curve(tmp_path / "run")] == [world] * 4
    weights = load_file(next((tmp_path / "run").glob("pipeline/transformer/*.safetensors")))
    assert all(bool(tensor.isfinite().all()) for tensor in weights.values())

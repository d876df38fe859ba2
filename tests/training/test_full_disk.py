"""A disk that fills up while a run is saved: a message, the last good state, no leftovers."""

import errno
import resource
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import diffgen.commands.export as export
import diffgen.training.checkpoint as checkpoint
from diffgen.cli import launch
from diffgen.commands.train import train
from diffgen.config.train import TrainConfig
from diffgen.training.checkpoints import Checkpoints

# diffusers hands a tensor to numpy the old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SETTINGS = {
    "data": {"kind": "shapes", "size": "16x16"},
    "model": {"depth": 1, "hidden_size": 32, "num_heads": 2, "patch_size": 4},
    "sampling": {"scheduler": "euler", "steps": 1},
    "report": {"sizes": ["16x16"], "num_images": 0},
    "device": "cpu",
}
LOOP = {"batch_size": 8, "log_images": 8, "checkpoint_images": 8, "sample_images": 0}


def config(out: Path, images: int, ema: str = "constant") -> TrainConfig:
    """A checkpoint every step; only the average ``power`` stores snapshots too."""
    changes = {"out": out, "ema": {"kind": ema}, "train": {**LOOP, "images": images}}
    return TrainConfig.model_validate({**SETTINGS, "schedule": {"decay": "constant"}, **changes})


def refused(out: Path, images: int, capsys) -> str:
    """What the script says; it must say it with code 2."""
    argv = ["--config", str(out / "config.yaml"), "--train.images", str(images)]
    assert launch("train", argv, "train/dit.py") == 2
    complaint = [line for line in capsys.readouterr().err.splitlines() if "img/s" not in line]
    (message,) = [line for line in complaint if line.startswith("train/dit.py: ")]
    assert not any("Traceback" in line for line in complaint)
    return message


def files(out: Path) -> dict[str, bytes]:
    """Everything below the run folder but the log and the settings."""
    kept = [p for p in out.rglob("*") if p.is_file() and p.parent != out]
    return {str(path.relative_to(out)): path.read_bytes() for path in kept}


def assert_goes_on(out: Path, whole: Path, ema: str = "constant") -> None:
    """With space again, the run ends as one that never lacked it."""
    train(config(out, 24, ema))
    mine, theirs = (load_file(weights(run)) for run in (out, whole))
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
    assert (out / "metrics.jsonl").read_text().count("\n") == 3
    assert not [path for path in out.rglob(".*") if path.name != ".lock"]


def weights(run: Path) -> Path:
    return run / "checkpoints/images-000000024/model.safetensors"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "whole"
    train(config(out, 24))
    return out


def halfway(write):
    """``write(what, path)``, but the disk is full after half of the file."""

    def full(what, path):
        write(what, path)
        Path(path).write_bytes(Path(path).read_bytes()[: Path(path).stat().st_size // 2])
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    return full


def full_pipeline(pipe, path):
    (Path(path) / "model_index.json").write_text("{")
    raise OSError(errno.ENOSPC, "No space left on device", str(path))


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ((checkpoint, "save_file"), "checkpoints/images-000000016"),
        ((checkpoint.torch, "save"), "checkpoints/images-000000016"),
        ((export, "save_file"), "snapshots/000000008.safetensors"),
        ((export.DiffGenPipeline, "save_config"), "pipeline"),
    ],
    ids=["weights", "optimisers", "snapshot", "pipeline"],
)
def test_no_space_left(whole, tmp_path, monkeypatch, capsys, place, name):
    out, ema = tmp_path / "run", "power" if "snapshots" in name else "constant"
    train(config(out, 8, ema))
    before = files(out)
    capsys.readouterr()
    with monkeypatch.context() as patch:
        patch.setattr(*place, full_pipeline if name == "pipeline" else halfway(getattr(*place)))
        message = refused(out, 24, capsys)
    assert f"{out / name} cannot be written, what was there is kept" in message
    assert "No space left on device" in message
    after = files(out)
    assert {key: after[key] for key in before} == before
    assert not [path for path in out.rglob(".*") if path.name != ".lock"]
    assert_goes_on(out, whole, ema)


@contextmanager
def largest_file(size: int):
    """The operating system refuses to let any file grow beyond ``size`` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("share", [0.5, 1.1])
def test_the_operating_system_refuses_for_real(whole, tmp_path, capsys, share):
    """Through every library's own writing; at 1.1 the weights fit and the optimisers do not."""
    out = tmp_path / "run"
    train(config(out, 8))
    before = files(out)
    capsys.readouterr()
    with largest_file(int(share * weights(whole).stat().st_size)):
        message = refused(out, 24, capsys)
    assert "checkpoints/images-000000016 cannot be written, what was there is kept" in message
    assert files(out) == before
    assert_goes_on(out, whole)


def test_a_killed_save_leaves_nothing_that_grows(tmp_path):
    """Checkpoints at a signal bear odd numbers, so a later save must sweep what a kill left."""
    checkpoints = Checkpoints(tmp_path, keep=2)
    checkpoints.save(8, lambda path: (path / "f").write_text("x"))
    for name in (".images-000000013.new", ".images-000000007.old"):
        (checkpoints.folder / name).mkdir()
        (checkpoints.folder / name / "f").write_text("half")
    checkpoints.save(16, lambda path: (path / "f").write_text("y"))
    names = sorted(path.name for path in checkpoints.folder.iterdir())
    assert names == ["images-000000008", "images-000000016"]

"""``train/nitro.py`` killed or stopped in each of its stages: the same student, bit for bit."""

import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from diffgen.commands.nitro import adversarial, command
from diffgen.commands.nitro import pairs as drawing
from diffgen.commands.nitro.adversarial import Judge
from diffgen.commands.nitro.distillation import Distillation
from diffgen.commands.nitro.scores import Examples, Scores
from diffgen.metrics.shards import Shards
from diffgen.nitro.objective import Adversarial, Regression
from tests.e2e.forked import Running
from tests.lacon_runs import tiny_run
from tests.nitro.runs import QUICK, assert_same, newest, nitro, scores

# diffusers hands a tensor to numpy the old way.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]


class Killed(BaseException):
    """As sudden as a signal."""


@pytest.fixture(scope="module", autouse=True)
def _small_files():
    """Four files of pairs instead of one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drawing, "shard_size", lambda count: 32)
        yield


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Path:
    """A folder with the run ``tiny`` and a student of it, distilled in one go."""
    folder = tmp_path_factory.mktemp("work")
    nitro(tiny_run(folder / "tiny", prediction="x0"))
    return folder


@pytest.fixture
def whole(work) -> Path:
    return work / "tiny-nitro"


def killing(patch, owner, name: str, at: int) -> None:
    """``owner.name`` kills the command at its ``at``-th call, after it has done its work."""
    does, calls = getattr(owner, name), []

    def then_killed(*args, **options):
        done = does(*args, **options)
        calls.append(name)
        if len(calls) == at:
            raise Killed
        return done

    patch.setattr(owner, name, then_killed)


def killed_before(patch, owner, name: str, at: int) -> None:
    """As ``killing``, but before the work is done."""
    does, calls = getattr(owner, name), []

    def or_killed(*args, **options):
        calls.append(name)
        if len(calls) == at:
            raise Killed
        return does(*args, **options)

    patch.setattr(owner, name, or_killed)


@pytest.mark.parametrize(
    ("kill", "owner", "name", "at", "left"),
    [
        (killing, Shards, "write", 2, "pairs/00000032-00000063.safetensors"),
        (killed_before, Regression, "__call__", 4, "regression/checkpoints/images-000000016"),
        (killed_before, command, "train_student", 1, "regression/pipeline"),
        (killed_before, Judge, "judge", 1, "regression/pipeline"),
        (killed_before, Adversarial, "step", 3, "checkpoints/images-000000016"),
        (killed_before, Judge, "judge", 3, "checkpoints/images-000000032"),
        (killed_before, Scores, "add", 3, "checkpoints/images-000000032"),
        (killing, Scores, "add", 3, "checkpoints/images-000000032"),
        (killed_before, adversarial, "report", 1, "checkpoints/images-000000048"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_killed_distillation_goes_on_as_if_nothing_had_happened(
    work, whole, tmp_path, monkeypatch, kill, owner, name, at, left
):
    out = tmp_path / "tiny-nitro"
    with monkeypatch.context() as patch:
        kill(patch, owner, name, at)
        with pytest.raises(Killed):
            nitro(work / "tiny", "--out", str(out))
    assert (out / left).exists()
    last = "checkpoints/images-000000048"
    assert name == "report" or not (out / last).exists()
    nitro(work / "tiny", "--out", str(out))
    assert_same(out, whole)


@pytest.fixture
def told(monkeypatch):
    """Scores are 5, 4, 3 and 9 in the place of what they are: the third is the best."""
    score = Examples.score

    def falling(self, pipe, images):
        found = score(self, pipe, images)
        fid = 9.0 if images > 32 else 5 - images / 16
        return replace(found, fid=dict.fromkeys(found.fid, fid))

    monkeypatch.setattr(Examples, "score", falling)


def holds_the_third(out: Path) -> bool:
    """Whether the pipeline is the average of the checkpoint of 32 images."""
    assert [line["fid_to_teacher"]["1"] for line in scores(out)] == [5, 4, 3, 9]
    (average,) = (out / "checkpoints/images-000000032").glob("ema-*.safetensors")
    wanted = load_file(average)
    held = load_file(out / "pipeline/transformer/diffusion_pytorch_model.safetensors")
    return all(torch.equal(value, wanted[name]) for name, value in held.items())


def test_the_pipeline_holds_the_best_checkpoint_not_the_last(work, told, tmp_path, capsys):
    out = tmp_path / "tiny-nitro"
    nitro(work / "tiny", "--out", str(out), "--train.keep-checkpoints", "9")
    assert holds_the_third(out)
    table = capsys.readouterr().out.split("diversity\n")[1].splitlines()[:3]
    assert [line.split()[0] for line in table] == ["0", "32", "48"]
    assert ["pipeline/" in line for line in table] == [False, True, False]


def test_it_does_so_too_if_the_best_ones_export_was_killed(work, told, tmp_path, monkeypatch):
    out = tmp_path / "tiny-nitro"
    more = (work / "tiny", "--out", str(out), "--train.keep-checkpoints", "9")
    with monkeypatch.context() as patch:
        killed_before(patch, Distillation, "save", 4)  # after that of the regression, 0 and 16
        with pytest.raises(Killed):
            nitro(*more)
    nitro(*more)
    assert holds_the_third(out)


def test_a_file_of_pairs_that_is_lost_is_drawn_again_alone(work, whole, tmp_path):
    out = shutil.copytree(whole, tmp_path / "tiny-nitro")
    files = sorted((out / "pairs").glob("*.safetensors"))
    before = {file: file.stat().st_mtime_ns for file in files}
    files[1].unlink()
    nitro(work / "tiny", "--out", str(out))
    after = {file: file.stat().st_mtime_ns for file in sorted(before)}
    assert [file for file in files if after[file] != before[file]] == [files[1]]
    assert_same(out, whole)


def test_a_finished_distillation_computes_nothing_again(work, whole, capsys):
    def written() -> dict:
        files = [*whole.rglob("*.safetensors"), *whole.rglob("*.png")]
        return {file: file.stat().st_mtime_ns for file in files}

    before = written()
    assert len(before) > 10
    nitro(work / "tiny")
    assert written() == before
    said = capsys.readouterr().out
    assert "in pipeline/" in said
    assert f"python sample/generate.py {whole} --out samples/{whole.name}" in said


LONG = [*QUICK, "--train.images", "240", "--train.checkpoint-images", "80"]


def started(work: Path, folder: Path, out: str) -> Running:
    argv = [str(work / "tiny"), *LONG, "--out", out]
    return Running("train/nitro.py", *argv, folder=folder)


@pytest.fixture(scope="module")
def undisturbed(work) -> Path:
    run = started(work, work, "undisturbed")
    assert run.codes == [0], run.said
    return work / "undisturbed"


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGTERM, 143), (signal.SIGKILL, -9)],
    ids=["stopped", "killed"],
)
def test_a_real_signal_in_the_second_stage(work, undisturbed, tmp_path, number, code):
    out = tmp_path / "undisturbed"
    run = started(work, tmp_path, out.name)
    run.until((out / "metrics.jsonl").exists)
    run.signal(number)
    assert run.codes == [code]
    assert not (out / "checkpoints/images-000000240").exists(), "too late to show anything"
    if number == signal.SIGTERM:
        seen = int(newest(out).name.removeprefix("images-"))
        assert run.said[0].endswith(f"at {seen:,} images, the same command goes on from it")
    run = started(work, tmp_path, out.name)
    assert run.codes == [0], run.said
    assert_same(out, undisturbed)


@pytest.mark.parametrize("stage", ["pairs", "regression"])
def test_a_stop_in_an_earlier_stage_says_what_is_kept(work, tmp_path, stage):
    """Pairs in 63 files, or a regression of 4,000 steps."""
    more = {
        "pairs": ("--pairs.steps", "4", "--pairs.count", "4000"),
        "regression": ("--regression.train.images", "32000"),
    }
    argv = [str(work / "tiny"), *LONG, *more[stage], "--out", "run"]
    run = Running("train/nitro.py", *argv, folder=tmp_path)
    begun = {
        "pairs": "pairs/00000000-00000063.safetensors",
        "regression": "regression/metrics.jsonl",
    }
    run.until((tmp_path / "run" / begun[stage]).exists)
    run.signal(signal.SIGTERM)
    assert run.codes == [143]
    said = {
        "pairs": " of 4000 of the teacher's images are kept, the same command goes on",
        "regression": "the same command goes on from it",
    }
    assert said[stage] in run.said[0]
    assert "Traceback" not in run.said[0]
    assert not (tmp_path / "run/regression/pipeline").exists()

"""``train/lacon.py`` as a user runs it: trained, stopped, resumed, on several processes."""

import signal
from pathlib import Path

import pytest

from diffgen import DiffGenPipeline
from diffgen.lacon.load import load_aligner
from tests.e2e.forked import Running
from tests.lacon_runs import tensors, tiny_run
from tests.logs import curve

QUICK = [
    *("--condition", "mask", "--train.images", "400", "--train.batch-size", "8"),
    *("--train.log-images", "80", "--train.checkpoint-images", "160"),
    *("--optimizer.lr", "0.02", "--schedule.warmup-images", "0"),
]


def started(folder: Path, *more: str, world: int = 1) -> Running:
    """The training of 50 steps for ``folder/tiny``."""
    return Running("train/lacon.py", "tiny", *QUICK, *more, folder=folder, world=world)


def apart(one: Path, other: Path) -> float:
    mine, theirs = tensors(one), tensors(other)
    assert mine.keys() == theirs.keys()
    assert len(mine) > 40
    return max((mine[name] - theirs[name]).abs().max().item() for name in mine)


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Path:
    """A folder with the run ``tiny``, whose aligner of masks is trained."""
    folder = tmp_path_factory.mktemp("work")
    tiny_run(folder / "tiny")
    run = started(folder)
    assert run.codes == [0], run.said
    (folder / "said").write_text(run.said[0])
    return folder


def test_an_aligner_is_trained_beside_its_model_and_the_next_command_is_printed(work):
    out = work / "tiny/aligners/mask"
    assert [line["images"] for line in curve(out)] == list(range(80, 401, 80))
    assert {path.name for path in out.iterdir() if not path.name.startswith(".")} == {
        *("aligner", "checkpoints", "samples", "config.yaml", "metrics.jsonl"),
        *("origin.json", "r2.json", "r2.png"),
    }
    aligner = load_aligner(out, DiffGenPipeline.from_pretrained(work / "tiny").transformer)
    assert aligner.config.condition == "mask"
    assert len(aligner.config.r2) == 20
    said = (work / "said").read_text()
    assert "R² of mask on 256 held-out pictures" in said
    assert "  python sample/generate.py tiny --constraint mask=MAP.png" in said


@pytest.mark.slow
def test_two_processes_reach_the_weights_of_one(work, tmp_path):
    """A signal to one stops both; resumed, they end where one process does."""
    more = ("--out", str(tmp_path / "two"))
    run = started(work, *more, world=2)
    run.until((tmp_path / "two/metrics.jsonl").exists)
    run.signal(signal.SIGTERM, rank=1)
    assert run.codes == [143, 143]
    assert "the same command goes on from it" in run.said[0]
    assert run.said[1] == ""
    run = started(work, *more, world=2)
    assert run.codes == [0, 0], run.said
    assert run.said[1] == ""
    assert {line["processes"] for line in curve(tmp_path / "two")} == {2}
    one = work / "tiny/aligners/mask"
    assert apart(tmp_path / "two", one) < 1e-3  # in steps of 0.02, whose signs rounding may turn
    for a, b in zip(curve(one), curve(tmp_path / "two"), strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-5)

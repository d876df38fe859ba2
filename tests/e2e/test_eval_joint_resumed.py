"""``eval/joint.py`` again and wrongly: what is kept, what is drawn anew, what is refused."""

import json
import shutil
from pathlib import Path

import pytest

from diffgen.cli import main
from diffgen.commands.joint_eval import scorer
from diffgen.joint.pipeline import JointPipeline
from diffgen.lacon.conditions import EDGE
from diffgen.pipeline import DiffGenPipeline
from tests.e2e.forked import Running
from tests.e2e.joint_evals import argv, cell, make_joint_run, save_modules
from tests.e2e.lacon_sweeps import save_aligner

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

CELL = [8, 8]
"""Batches of a cell's images, or of its maps."""
GIVEN = 4 * CELL + 3 * [8]
"""Maps with and without classes, images, images under another map, and for the time."""


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A tiny run with all that the evaluation of depth and edges needs."""
    return make_joint_run(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def scored(model, tmp_path_factory) -> Path:
    """A finished evaluation."""
    out = tmp_path_factory.mktemp("scored") / "s"
    assert main(argv(model, out)) == 0
    return out


@pytest.fixture
def drawn(monkeypatch) -> list[int]:
    """The sizes of the batches that joint models draw."""
    seen = []
    call = JointPipeline.__call__

    def noting(self, *args, **options):
        seen.append(len(options["image_numbers"]))
        return call(self, *args, **options)

    monkeypatch.setattr(JointPipeline, "__call__", noting)
    return seen


def stop():
    raise KeyboardInterrupt


def rows(out: Path) -> list[dict]:
    """The figures, but for what was timed."""
    found = json.loads((out / "joint.json").read_text())["rows"]
    for row in found:
        for figures in (row["figures"], *row["seeds"]):
            del figures["seconds"], figures["times"]
    return found


def test_the_same_command_goes_on_and_a_new_adapter_redraws_its_own_cells(
    model, scored, tmp_path, drawn, capsys
):
    copy, out = shutil.copytree(model, tmp_path / "model"), shutil.copytree(scored, tmp_path / "s")
    assert main(argv(copy, out)) == 0
    assert drawn == []
    (out / "cells/edge-joint-seed0.json").unlink()
    assert main(argv(copy, out)) == 0
    assert drawn == CELL + 3 * [8]
    drawn.clear()
    save_modules(copy, EDGE, seed=5)
    assert main(argv(copy, out, "--baselines", "lacon")) == 0
    assert sorted(drawn) == sorted(GIVEN + CELL + 3 * [8] + 2 * CELL + 3 * [8])
    assert "3 cells of other settings" in capsys.readouterr().err


def test_a_stopped_cell_draws_no_pair_twice(model, scored, tmp_path, drawn, monkeypatch):
    score = scorer.score_on

    def stopping(bench, cell, *more):
        return stop() if cell.how == "joint" else score(bench, cell, *more)

    with monkeypatch.context() as patch:
        patch.setattr(scorer, "score_on", stopping)
        assert main(argv(model, tmp_path / "s")) == 130
    assert list(tmp_path.glob("s/cells/depth-joint-seed0.parts/pairs-*/*.safetensors"))
    assert drawn == GIVEN + CELL
    drawn.clear()
    assert main(argv(model, tmp_path / "s")) == 0
    assert drawn == 3 * [8] + GIVEN + CELL + 3 * [8] + 2 * CELL + 3 * [8]
    assert rows(tmp_path / "s") == rows(scored)


def test_processes_share_the_cells_of_the_script(model, scored, tmp_path):
    _, *given = argv(model, tmp_path / "s")
    run = Running("eval/joint.py", *given, folder=tmp_path, world=2)
    assert run.codes == [0, 0], run.said
    assert cell(tmp_path / "s", "edge-joint")["processes"] == 2
    assert rows(tmp_path / "s") == rows(scored)


def test_a_claim_is_written_from_finished_cells_and_passes_the_check(
    model, scored, tmp_path, drawn, capsys
):
    out, file = shutil.copytree(scored, tmp_path / "s"), tmp_path / "joint.json"
    assert main(argv(model, out, "--evidence", str(file))) == 0
    assert drawn == []
    claim = json.loads(file.read_text())
    assert claim["verdict"] == "inconclusive"  # one value tells nothing
    assert f"claim {file}: inconclusive" in capsys.readouterr().out
    decisive = [one for one in claim["comparisons"] if one["role"] == "decisive"]
    assert len(decisive) == 7
    given = cell(out, "edge-given")["measured"]["rows"]["edge"]["given"]["fidelity"]["mean"]
    title = "edge: image from map against the late constraint"
    (late,) = [one for one in claim["comparisons"] if one["name"] == title]
    assert late["this"] == [pytest.approx(given, abs=1e-6)]
    name = f"runs/{model.name}"
    assert f"python train/joint.py {name} --pair edge --method channels" in claim["commands"]
    assert claim["commands"][-1].startswith(f"python eval/joint.py {name} --out s ")
    assert str(tmp_path) not in file.read_text()
    assert main(["evidence", str(file)]) == 0
    again = ["--evidence", str(file), "--also", str(out)]
    assert main(argv(model, tmp_path / "other", *again)) == 2
    assert "is of the same model as" in capsys.readouterr().err


def refused(capsys, model: Path, *more: str, of: str = "edge") -> str:
    out = model.parent / "refused"
    assert main(argv(model, out, *more, of=of)) == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert not list(out.glob("cells/*.json"))
    return said


def test_what_is_missing_is_told_with_the_command_that_trains_it(model, tmp_path, capsys):
    bare = shutil.copytree(model, tmp_path / "bare")
    for name in ("joint/edge", "joint/edge-channels", "aligners/edge"):
        shutil.rmtree(bare / name)
    told = refused(capsys, bare).splitlines()
    assert len(told) == 4
    for command in (
        f"python train/joint.py {bare} --pair edge, or name",
        f"python train/joint.py {bare} --pair edge --method channels, or leave it out",
        f"python train/lacon.py {bare} --condition edge, or name",
    ):
        assert sum(command in line for line in told) == 1
    save_modules(bare, EDGE, 0)
    shutil.rmtree(bare / "joint/edge-channels")
    assert main(argv(bare, tmp_path / "s", "--baselines", "[]", of="edge")) == 0


def test_modules_of_another_model_or_condition_and_aligners_that_never_act(model, tmp_path, capsys):
    other = shutil.copytree(model, tmp_path / "other")
    shutil.rmtree(other / "joint/edge")
    shutil.copytree(model / "joint/depth", other / "joint/edge")
    assert "adapter of depth, but edge is asked for" in refused(capsys, other)
    save_modules(other, EDGE, 0)
    origin = other / "joint/edge-channels/origin.json"
    origin.write_text(json.dumps({"backbone": "another"}))
    assert "baselines: " in (told := refused(capsys, other))
    assert "comes from another model" in told
    save_aligner(DiffGenPipeline.from_pretrained(other), EDGE, other / "aligners", until=1.0)
    assert "baselines: the aligner in" in refused(capsys, other, "--baselines", "lacon")

"""``eval/nitro.py`` as a user runs it: students, scores, a table, a claim, and going on."""

import json
import shlex
import shutil
import signal
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from diffgen.cli import main
from diffgen.commands.nitro_eval import command
from diffgen.commands.nitro_eval.evidence import diverged
from diffgen.evidence import check_evidence
from diffgen.training.run_folder import RunFolder
from tests.e2e.refused import check_refused
from tests.lacon_runs import tiny_run
from tests.nitro.runs import QUICK

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

SHORT = [
    *QUICK,
    *("--train.images", "16", "--ablation-images", "8", "--num-images", "16"),
    *("--teacher-steps", "3", "--no-intervals"),
]
ROWS = "teacher,plain,regression,student,pool,fixed,regression_longer"


def argv(work: Path, out: Path, *more: str, rows: str = ROWS) -> list[str]:
    names = ["--rows", rows, "--seeds", "0,1"]
    return ["nitro-eval", str(work / "tiny"), *SHORT, *names, "--out", str(out), *more]


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Path:
    """A folder with the teacher ``tiny`` and the finished table ``done``, not to be changed."""
    folder = tmp_path_factory.mktemp("work")
    tiny_run(folder / "tiny", prediction="x0")
    assert main(argv(folder, folder / "done", "--evidence", str(folder / "claim.json"))) == 0
    return folder


@pytest.fixture
def copy(work, tmp_path) -> Path:
    return Path(shutil.copytree(work / "done", tmp_path / "copy"))


def summary(out: Path) -> dict:
    return json.loads((out / "nitro.json").read_text())


def weights(folder: Path) -> dict[str, torch.Tensor]:
    (file,) = (folder / "transformer").glob("*.safetensors")
    return load_file(file)


def trained(student: Path) -> dict[str, torch.Tensor]:
    """Its weights at the end of its second stage, whichever checkpoint was the best."""
    return load_file(sorted((student / "checkpoints").iterdir())[-1] / "model.safetensors")


def no_more(*arguments):
    pytest.fail("done already")


def test_every_row_has_its_figures_its_line_and_its_pictures(work):
    found = summary(work / "done")
    places = [(one["row"], one["steps"], one["seeds"]) for one in found["rows"]]
    assert places == [
        ("teacher", 3, [None, None]),
        *(("plain", n, [None, None]) for n in (1, 2, 4)),
        *(("regression", n, [0, 0]) for n in (1, 2, 4)),
        *(("student", n, [0, 1]) for n in (1, 2, 4)),
        ("pool", 1, [0, 1]),
        ("fixed", 1, [0, 1]),
        ("regression_longer", 1, [0]),
    ]
    images = {one["row"]: (one["trainings"][0] or {}).get("images") for one in found["rows"]}
    assert images == {
        **{"teacher": None, "plain": None, "regression": 32, "student": 16},
        **{"pool": 8, "fixed": 8, "regression_longer": 40},
    }
    for one in found["rows"]:
        mean = sum(seed["fid"]["mean"] for seed in one["of_seeds"]) / len(one["seeds"])
        assert one["figures"]["fid"]["mean"] == pytest.approx(mean)
        assert one["noise"] == list(range(len(one["seeds"])))
    drawn = [one["fid"]["mean"] for one in found["rows"][0]["of_seeds"]]
    assert drawn[0] != drawn[1]  # from other noise
    table = (work / "done/table.md").read_text().splitlines()
    assert sum(line.startswith("| ") for line in table) == 1 + len(places) + 1  # head, real images
    with Image.open(work / "done/rows.png") as picture:
        assert picture.height > len(places) * 64
    assert not (work / "done/cells/real.parts").exists()


def test_pairs_and_regression_are_made_once_and_seeds_and_heads_differ(work):
    done = work / "done"
    first = weights(done / "regression-0/regression/pipeline")
    for name in ("student-0", "student-1", "pool-1", "fixed-0"):
        taken = weights(done / name / "regression/pipeline")
        assert all(torch.equal(first[key], taken[key]) for key in first)
    longer = weights(done / "regression_longer-0/regression/pipeline")
    assert not all(torch.equal(first[key], longer[key]) for key in first)
    shards = [
        next((done / name / "pairs").glob("*.safetensors"))
        for name in ("regression-0", "regression_longer-0")
    ]
    assert shards[0].samefile(shards[1])
    heads = {}
    for name in ("pool-0", "pool-1", "fixed-0"):
        (newest,) = (done / name / "checkpoints").iterdir()  # of a single step
        heads[name] = load_file(newest / "heads.safetensors")["ages"]
    assert len(heads["pool-0"]) > 3 * 4
    assert heads["fixed-0"].tolist() == [1.0] * 3 * 4  # three types at four taps, one step old
    ends = [trained(done / name) for name in ("student-0", "student-1")]
    assert not all(torch.equal(ends[0][key], ends[1][key]) for key in ends[0])


def test_the_claim_follows_and_its_command_asks_for_the_same(work):
    assert check_evidence(work / "claim.json") == []
    stated = json.loads((work / "claim.json").read_text())
    decisive = [one for one in stated["comparisons"] if one["role"] == "decisive"]
    assert [one["figure"] for one in decisive].count("fid") == 7
    teacher = [one["fid"]["mean"] for one in summary(work / "done")["rows"][0]["of_seeds"]]
    assert decisive[0]["other"] == pytest.approx([1.3 * fid for fid in teacher], abs=1e-6)
    assert "3 steps, guided and by dpmpp" in stated["claim"]
    assert stated["seeds"] == [0, 1]
    words = shlex.split(stated["commands"][-1])
    assert words[:3] == ["python", "eval/nitro.py", "runs/tiny"]
    assert words[words.index("--rows") + 1] == ROWS


def test_the_same_command_again_trains_and_scores_nothing(work, copy, monkeypatch, capsys):
    for name in ("nitro", "score_on"):
        monkeypatch.setattr(command, name, no_more)
    before = summary(copy)
    (copy / "table.md").unlink()
    assert main(argv(work, copy)) == 0
    assert (copy / "table.md").read_text().strip() in capsys.readouterr().out
    assert summary(copy)["rows"] == before["rows"]


def test_a_signal_in_a_training_keeps_the_rows_and_it_goes_on_to_the_same_student(
    work, copy, monkeypatch, capsys
):
    shutil.rmtree(copy / "student-1")
    log = RunFolder.log

    def stop(folder, line):
        log(folder, line)
        if folder.path.name == "student-1":
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "log", stop)
        assert main(argv(work, copy, "--train.log-images", "8")) == 143
    said = capsys.readouterr().err
    assert f"saved {copy}/student-1/checkpoints/images-000000008 at 8 images" in said
    assert f"goes on from it; 12 of 13 rows are in {copy}" in said
    assert main(argv(work, copy)) == 0
    assert "row 8 of 13: student, seed 1, noise 1\nresuming" in capsys.readouterr().out
    ends = [trained(out / "student-1") for out in (copy, work / "done")]
    assert all(torch.equal(ends[0][key], ends[1][key]) for key in ends[0])
    for mine, theirs in zip(summary(copy)["rows"], summary(work / "done")["rows"], strict=True):
        assert mine["of_seeds"] == theirs["of_seeds"]


def test_a_signal_while_scoring_keeps_the_training(work, copy, monkeypatch, capsys):
    (copy / "cells/pool-1-1-1.json").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(command, "score_on", lambda *_: signal.raise_signal(signal.SIGTERM))
        assert main(argv(work, copy)) == 143
    assert f"12 of 13 rows are in {copy}, the same command goes on" in capsys.readouterr().err
    monkeypatch.setattr(command, "nitro", no_more)
    assert main(argv(work, copy)) == 0
    assert summary(copy)["rows"] == summary(work / "done")["rows"]


def test_rows_trained_by_the_commands_it_prints_are_taken(work, tmp_path, monkeypatch, capsys):
    asked = argv(work, tmp_path / "out", rows="pool")
    assert main([*asked, "--commands"]) == 0
    printed = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("#")]
    assert [line.split("/")[-1] for line in printed] == [
        *("regression-0.yaml", "pool-0.yaml", "pool-1.yaml")
    ]
    for line in printed:
        words = shlex.split(line)
        assert words[:2] == ["python", "train/nitro.py"]
        assert main(["nitro", *words[2:]]) == 0
    capsys.readouterr()
    monkeypatch.setattr(command, "nitro", no_more)
    assert main([*asked, "--commands"]) == 0
    assert capsys.readouterr().out == "# every row is trained\n"
    assert main(asked) == 0
    (own,) = [one for one in summary(work / "done")["rows"] if one["row"] == "pool"]
    (line,) = summary(tmp_path / "out")["rows"]
    assert line["of_seeds"] == own["of_seeds"]


def test_other_settings_of_a_training_are_refused_before_anything_is_made(
    work, copy, monkeypatch, capsys
):
    for name in ("nitro", "score_on"):
        monkeypatch.setattr(command, name, no_more)
    (copy / "cells/teacher-3-0.json").unlink()
    for option, value, row, said in (
        ("--heads.lr", "0.5", "student-0", "heads.lr: "),
        ("--ablation-images", "16", "pool-0", "train.images: 8 there, 16 here"),
        ("--train.checkpoint-images", "8", "student-0", "checkpoint_images: 16 there, 8 here"),
        ("--regression.later", "0.5", "regression-0", "regression.later: 0.25 there, 0.5 here"),
    ):
        assert main(argv(work, copy, option, value)) == 2
        told = capsys.readouterr().err
        assert f"out: {copy}/{row} holds a student of other settings" in told
        assert said in told


def test_scores_of_other_settings_or_weights_are_taken_anew_without_training(
    work, copy, monkeypatch, capsys
):
    monkeypatch.setattr(command, "nitro", no_more)
    before = summary(copy)["rows"]
    shutil.rmtree(copy / "pool-0/pipeline")
    longer = copy / "regression_longer-0/regression/pipeline"
    shutil.copytree(longer, copy / "pool-0/pipeline")
    assert main(argv(work, copy)) == 0
    assert [line for line in capsys.readouterr().out.splitlines() if line.startswith("row ")] == [
        "row 9 of 13: pool, seed 0, noise 0"
    ]
    pool, regression = summary(copy)["rows"][10], summary(copy)["rows"][12]
    assert pool["of_seeds"][0] == regression["of_seeds"][0] != before[10]["of_seeds"][0]
    assert main(argv(work, copy, "--num-images", "12", rows="plain")) == 0
    assert summary(copy)["counts"]["images"] == 12


def test_a_training_that_was_killed_before_its_last_score_is_scored(work, copy, capsys):
    file = copy / "student-1/scores.jsonl"
    whole = file.read_text()
    file.write_text("".join(whole.splitlines(keepends=True)[:-1]))
    assert main(argv(work, copy)) == 0
    assert "row 8 of 13: student, seed 1, noise 1\nresuming" in capsys.readouterr().out
    assert file.read_text() == whole
    assert summary(copy)["rows"] == summary(work / "done")["rows"]


def test_a_loss_that_is_no_number_ends_its_row_which_is_scored_and_told(
    work, tmp_path, monkeypatch, capsys
):
    out = tmp_path / "out"
    rates = ["--optimizer.lr", "1e30", "--train.log-images", "8", "--ablation-images", "40"]
    asked = argv(work, out, *rates, rows="regression,linear")
    assert main(asked) == 0
    message = "the loss became NaN or infinite before 16 images"
    assert message in (out / "table.md").read_text()
    (remark,) = diverged(summary(out))
    assert remark.startswith("The loss of linear of seed 0 became NaN or infinite after 0 of 40")
    (line,) = [one for one in summary(out)["rows"] if one["row"] == "linear"]
    (told,) = line["trainings"]
    assert (told["best"]["images"], told["stopped"]["images"]) == (0, 0)
    first = next(one for one in summary(out)["rows"] if one["row"] == "regression")
    assert line["of_seeds"][0] == first["of_seeds"][0]  # its best is what it began with
    monkeypatch.setattr(command, "nitro", no_more)
    assert main([*asked, "--commands"]) == 0
    assert "every row is trained" in capsys.readouterr().out


def test_students_of_printed_commands_are_kept_apart_by_teacher_too(work, tmp_path, capsys):
    out = tmp_path / "out"
    assert main([*argv(work, out, rows="pool"), "--commands"]) == 0
    tiny_run(tmp_path / "tiny", prediction="x0", depth=1)
    assert main([*argv(tmp_path, out, rows="pool"), "--commands"]) == 2
    assert f"out: {out} is of another teacher" in capsys.readouterr().err


def test_a_student_is_not_written_in_a_released_layout(work, tmp_path):
    student = str(work / "done/student-0")
    check_refused(
        [("convert", [student, "x.pt", "--to", "sit"], "is distilled, and --to writes weights")],
        tmp_path,
    )


def test_another_teacher_is_refused(copy, tmp_path, capsys):
    tiny_run(tmp_path / "tiny", prediction="x0", depth=1)
    assert main(argv(tmp_path, copy, rows="plain")) == 2
    assert f"out: {copy} is of another teacher than {tmp_path}/tiny is now" in (
        capsys.readouterr().err
    )


def test_what_cannot_be_asked_for_is_refused_in_one_line_and_without_torch(work, tmp_path):
    teacher = str(work / "tiny")
    cases = [
        ([teacher, "--rows", "pool,pool"], "rows: pool, pool names one twice"),
        ([teacher, "--rows", "pools"], "rows"),
        ([teacher, "--seeds", "1,1"], "seeds: 1, 1 names one twice"),
        ([teacher, "--evidence", "e.json", "--rows", "student"], "needs the rows teacher, plain"),
        ([teacher, "--evidence", "e.json", "--steps", "2"], "1, 2 and 4 steps, but steps is 2"),
        ([teacher, "--reference", "nowhere"], "reference: nowhere is neither shapes, digits nor"),
        (
            [str(work / "tiny/pipeline/transformer"), "--reference", "auto"],
            "holds no pipeline",
        ),
        ([str(work / "done/student-0")], "is distilled itself; give its teacher"),
    ]
    check_refused([("nitro-eval", argv, said) for argv, said in cases], tmp_path)

"""``train/nitro.py`` as a user runs it: what it leaves, what stops it, what it refuses."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from diffgen import DiffGenPipeline
from diffgen.cli import launch, main
from diffgen.commands.nitro import command
from diffgen.config.command_line import load
from diffgen.config.nitro import NitroConfig
from tests.lacon_runs import tiny_run
from tests.logs import curve
from tests.nitro.runs import assert_same, newest, nitro, scores

# diffusers hands a tensor to numpy the old way.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Path:
    """A folder with the run ``tiny`` and a student of it."""
    folder = tmp_path_factory.mktemp("work")
    run = tiny_run(folder / "tiny", prediction="x0")
    nitro(run, "--train.sample-images", "24", "--regression.train.sample-images", "16")
    return folder


@pytest.fixture
def student(work) -> Path:
    return work / "tiny-nitro"


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "transformer/diffusion_pytorch_model.safetensors")


def test_the_folder_is_a_run_of_two_stages_with_its_scores(work, student):
    names = {path.name for path in student.iterdir() if not path.name.startswith(".")}
    assert names == {
        *("config.yaml", "origin.json", "metrics.jsonl", "scores.jsonl"),
        *("pairs", "regression", "checkpoints", "samples", "pipeline"),
    }
    assert sorted(path.name for path in (student / "samples").iterdir()) == [
        *("images-000000024.png", "images-000000048.png")
    ]
    assert len(list((student / "regression/samples").iterdir())) == 2
    assert [line["images"] for line in curve(student / "regression")] == [16, 32]
    kinds = [f"{what} {kind}" for kind in ("global", "local", "local_unconditional")
             for what in ("heads", "gap")]  # fmt: skip
    for line, images in zip(curve(student), (24, 48), strict=True):
        assert line["images"] == images
        assert sorted(line["losses"]) == sorted(kinds)
    told = scores(student)
    assert [line["images"] for line in told] == [0, 16, 32, 48]
    assert [line["head_age"]["most"] for line in told] == [0, 2, 4, 6]
    assert told[-1]["head_age"]["mean"] < 6  # of a tenth begun anew an iteration
    for line in told:
        assert line["diversity"] > 0
        assert sorted(line["fid_to_teacher"]) == ["1", "2", "4"]
        assert min(line["fid_to_teacher"].values()) > 0
    stated = load(NitroConfig, student / "config.yaml")
    assert (stated.source, stated.timestep_shift) == (str(work / "tiny"), 1.0)


def test_what_the_stages_trained_is_neither_the_teacher_nor_each_other(work, student):
    teacher, begun = weights(work / "tiny/pipeline"), weights(student / "regression/pipeline")
    done = load_file(newest(student) / "model.safetensors")
    assert teacher.keys() == begun.keys() == done.keys()
    for one, other in ((teacher, begun), (begun, done)):
        assert any(not torch.equal(one[name], other[name]) for name in one)


def test_the_teacher_is_left_as_it_was(work, student, tmp_path):
    fresh = tiny_run(tmp_path / "tiny", prediction="x0")
    files = [path.relative_to(fresh) for path in fresh.rglob("*") if path.is_file()]
    assert {path.name for path in (work / "tiny").iterdir()} == {"config.yaml", "pipeline"}
    for file in files:
        assert (work / "tiny" / file).read_bytes() == (fresh / file).read_bytes()


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_the_student_is_an_ordinary_run_folder_that_draws_in_few_steps(student, tmp_path, steps):
    out = tmp_path / "out"
    argv = [str(student), "--steps", str(steps), "--size", "8x24", "--num-images", "3"]
    assert main(["sample", *argv, "--device", "cpu", "--out", str(out)]) == 0
    stated = json.loads((out / "settings.json").read_text())["settings"]
    assert (stated["scheduler"], stated["steps"]) == ("lcm", steps)
    pipe = DiffGenPipeline.from_pretrained(student)
    pipe.set_progress_bar_config(disable=True)
    assert pipe(["star"], 8, 24, seed=0).images[0].size == (24, 8)
    assert list(pipe.config.distilled["steps"]) == [1, 2, 4]


def test_the_student_is_scored_like_any_model(student, tmp_path):
    out = tmp_path / "scores.json"
    argv = [str(student), "--num-images", "100", "--device", "cpu", "--out", str(out)]
    reference = ["--reference", "shapes", "--size", "16x16"]
    assert main(["eval", *argv, *reference]) == 0
    assert json.loads(out.read_text())["settings"]["scheduler"] == "lcm"


def test_guidance_is_refused_for_it(student, capsys):
    assert main(["sample", str(student), "--guidance.scale", "2"]) == 2
    assert "guidance: cfg 2, but the model is distilled" in capsys.readouterr().err


def test_a_student_can_take_over_pairs_and_regression(work, student, tmp_path, capsys):
    """Linked, and to the same end; of another regression the pairs alone. The other's files stay
    as they are, whatever this one does."""
    out = tmp_path / "tiny-nitro"
    before = {file: file.read_bytes() for file in student.rglob("*") if file.is_file()}
    nitro(work / "tiny", "--out", str(out), "--reuse", str(student))
    assert_same(out, student)
    name = "pairs/00000000-00000063.safetensors"
    assert (out / name).stat().st_ino == (student / name).stat().st_ino
    other = tmp_path / "other"
    more = ("--regression.train.images", "48", "--heads.loss", "softplus")
    nitro(work / "tiny", "--out", str(other), "--reuse", str(student), *more)
    said = f"{student} has a regression of other settings; its pairs are taken over"
    assert said in capsys.readouterr().out
    assert [line["images"] for line in curve(other / "regression")] == [16, 32, 48]
    assert (other / name).stat().st_ino == (student / name).stat().st_ino
    assert {file: file.read_bytes() for file in before} == before


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--pairs.steps", "3"), "was drawn with another setting"),
        (("--pairs.guidance.scale", "3"), "was drawn with another setting"),
        (("--pairs.count", "120"), "was drawn with another count: 100 there, 120 here"),
    ],
)
def test_pairs_of_other_settings_are_not_taken_over(work, student, tmp_path, capsys, more, said):
    out = tmp_path / "o"
    nitro(work / "tiny", "--out", str(out), "--reuse", str(student), *more, expect=2)
    told = capsys.readouterr().err
    assert f"reuse: {student / 'pairs'} {said}" in told
    assert "Traceback" not in told
    assert not (out / "pairs").exists()


@pytest.mark.parametrize(
    "more", [("--timestep-shift", "0.5"), ("--steps", "4")], ids=["shift", "steps"]
)
def test_of_a_regression_for_other_times_the_pairs_alone_are_taken_over(
    work, tmp_path, capsys, monkeypatch, more
):
    """One step was not told of later times, and none of a shift."""
    monkeypatch.setattr(command, "train_student", lambda *stages: None)
    one, other = tmp_path / "one", tmp_path / "other"
    for out, given in ((one, ("--steps", "1")), (other, ("--reuse", str(one), *more))):
        nitro(work / "tiny", "--out", str(out), "--steps", "1", *given)
    assert f"{one} has a regression of other settings" in capsys.readouterr().out
    assert len(curve(other / "regression")) == 2
    pairs, weights = "pairs/00000000-00000063.safetensors", "regression/metrics.jsonl"
    assert (one / pairs).stat().st_ino == (other / pairs).stat().st_ino
    assert (one / weights).stat().st_ino != (other / weights).stat().st_ino


def test_pairs_of_another_teacher_are_not_taken_over_nor_gone_on_with(
    work, student, tmp_path, capsys
):
    other = tiny_run(tmp_path / "other", prediction="x0", mlp_ratio=2.0)
    nitro(other, "--reuse", str(student), expect=2)
    assert "was drawn with another teacher" in capsys.readouterr().err
    out = shutil.copytree(student, tmp_path / "out")
    for lost in ("pairs", "checkpoints"):
        shutil.rmtree(out / lost)
        nitro(other, "--out", str(out), expect=2)
        said = capsys.readouterr().err
        assert f"source: {other} is another model than {out} was distilled from" in said
        assert "remove the whole folder" in said


def test_other_settings_are_not_gone_on_with(work, student, capsys):
    nitro(work / "tiny", "--heads.loss", "linear", expect=2)
    said = capsys.readouterr().err
    assert f"out: {student} holds a run with other settings" in said
    assert "heads.loss: hinge there, linear here" in said


def test_a_collapse_stops_the_training_and_keeps_the_best(work, student, tmp_path, capsys):
    """Weights that decay by a third a step leave one grey image in the end."""
    out = tmp_path / "collapsed"
    more = ("--score.collapse", "0.9", "--optimizer.weight-decay", "300")
    nitro(work / "tiny", "--out", str(out), "--reuse", str(student), *more, expect=2)
    told = scores(out)
    assert len(told) > 1
    assert told[-1]["diversity"] < 0.9 * told[0]["diversity"]
    best = min(told, key=lambda line: sum(line["fid_to_teacher"].values()))
    said = capsys.readouterr().err
    assert f"the student has collapsed before {told[-1]['images']} images" in said
    assert f"pipeline/ holds the best, of {best['images']} images" in said
    assert DiffGenPipeline.from_pretrained(out).config.distilled is not None


def test_a_bad_loss_stops_the_training(work, student, tmp_path, capsys):
    out = tmp_path / "bad"
    nitro(work / "tiny", "--out", str(out), "--reuse", str(student), "--optimizer.lr", "1e30",
          "--score.count", "100", expect=2)  # fmt: skip
    said = capsys.readouterr().err
    assert "the loss became NaN or infinite before 16 images; none was saved yet" in said
    assert "with --reuse of this one, may help" in said
    assert [line["images"] for line in scores(out)] == [0]
    assert weights(out / "pipeline")  # that of the regression


def test_a_bad_loss_of_the_regression_names_its_own_remedy(work, tmp_path, capsys):
    rates = ("--regression.optimizer.lr", "1e30", "--regression.optimizer.muon-lr", "1e30")
    nitro(work / "tiny", "--out", str(tmp_path / "bad"), *rates, expect=2)
    assert "lower --regression.optimizer rates in a new --out" in capsys.readouterr().err


def test_a_pool_that_is_too_small_is_refused_with_the_number_it_takes(
    work, student, tmp_path, capsys
):
    more = ("--out", str(tmp_path / "o"), "--reuse", str(student), "--heads.share", "2")
    nitro(work / "tiny", *more, "--heads.pool", "95", expect=2)
    said = capsys.readouterr().err
    assert "heads.pool: 95 heads cannot give 2 to each of 48 compartments" in said
    assert "give 96 or more" in said
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--score.extractor.name", "no_such_model"), "no_such_model"),
        (
            ("--real", "data", "--data.kind", "digits", "--data.size", "16x16"),
            "they must be the same",
        ),
        (
            ("--pairs.guidance.kind", "autoguidance", "--pairs.guidance.guide", "TEACHER"),
            "pairs.guidance.guide: it is the model itself",
        ),
    ],
    ids=["extractor", "data", "guide"],
)
def test_what_only_the_last_stage_needs_is_refused_before_the_first(
    work, tmp_path, capsys, more, said
):
    more = [str(work / "tiny") if one == "TEACHER" else one for one in more]
    nitro(work / "tiny", "--out", str(tmp_path / "o"), *more, expect=2)
    assert said in capsys.readouterr().err
    assert not (tmp_path / "o/pairs").exists()


def test_a_student_is_no_teacher(student, capsys):
    nitro(student, expect=2)
    assert f"source: {student} is distilled itself; give its teacher" in capsys.readouterr().err


def test_heads_of_every_type_tell_the_students_images_apart_in_a_narrow_pool(
    work, student, tmp_path
):
    """Of 8 channels: a crop of 4 x 4 tokens is halved to a single place."""
    out = tmp_path / "narrow"
    more = ("--heads.channels", "8", "--reuse", str(student))
    nitro(work / "tiny", "--out", str(out), *more)
    for line in curve(out):
        assert all(line["losses"][name] for name in line["losses"] if name.startswith("gap"))


def test_help_names_every_field_and_a_dry_run_leaves_nothing(work, tmp_path, capsys):
    run = str(work / "tiny")
    for argv, wanted in (
        (["--help"], ["SOURCE", "--heads.refresh", "--pairs.count", "--timestep-shift"]),
        ([run, "--dry-run", "--out", str(tmp_path / "o")], ["pool: 480", "loss: hinge"]),
    ):
        with pytest.raises(SystemExit) as stop:
            launch("nitro", argv, "nitro")
        assert stop.value.code == 0
        said = capsys.readouterr().out
        assert all(text in said for text in wanted), said
    assert not (tmp_path / "o").exists()

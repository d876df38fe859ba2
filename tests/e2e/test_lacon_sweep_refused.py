"""What ``eval/lacon.py`` refuses: exit code 2, one message, and nothing drawn."""

import shutil
from pathlib import Path

import pytest

from diffgen.cli import main
from diffgen.lacon.conditions import DEPTH, EDGE
from diffgen.pipeline import DiffGenPipeline
from tests.e2e.lacon_sweeps import FAST, make_run, save_aligner
from tests.e2e.references import keep
from tests.tiny import build


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A tiny run with three aligners."""
    return make_run(tmp_path_factory.mktemp("model"))


@pytest.fixture
def bare(model, tmp_path) -> Path:
    """The model without aligners."""
    ignored = shutil.ignore_patterns("aligners")
    return shutil.copytree(model, tmp_path / "bare", ignore=ignored)


def refused(capsys, model: Path, *more: str) -> str:
    out = model.parent / "refused"
    assert main(["lacon-sweep", str(model), *FAST, "--out", str(out), *more]) == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert not list(out.glob("cells/*.json"))
    return said


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--conditions", "edges"], "conditions: 'edges' is unknown; known are edge, mask"),
        (["--conditions", "edge,depth"], "conditions: depth has no aligner in"),
        (["--conditions", "edge", "--no-floor"], "floor: no leaves no pictures"),
        (["--conditions", "edge", "--labels", "in_turn"], "labels: in_turn, but image k"),
        (["--conditions", "edge", "--scales", "0"], "scales: [0.0] holds none above 0"),
        (["--conditions", "edge", "--evidence", "x.json"], "the claim is about mask too"),
        (["--scales", "2", "--evidence", "x.json"], "the claim is about scale 1"),
        (["--conditions", "edge,edge"], "conditions: ['edge', 'edge'] names one twice"),
    ],
)
def test_before_anything_is_opened(model, capsys, more, said):
    told = refused(capsys, model, *more)
    assert said in told


def test_a_model_without_aligners_is_told_how_to_train_one(bare, capsys):
    told = refused(capsys, bare, "--conditions", "mask")
    assert f"python train/lacon.py {bare} --condition mask" in told
    assert told.count("\n") == 1


def test_an_aligner_of_another_backbone_or_condition(model, bare, capsys):
    other = build(sample_size=(16, 16), depth=1)
    save_aligner(other, EDGE, bare / "aligners")
    assert "aligner of another model" in refused(capsys, bare, "--conditions", "edge")
    shutil.copytree(model / "aligners/mask", bare / "aligners/palette")
    told = refused(capsys, bare, "--conditions", "palette")
    assert "reads mask (1 channels), not palette (3)" in told


def test_depth_of_data_that_brings_none(model, bare, capsys):
    save_aligner(DiffGenPipeline.from_pretrained(model), DEPTH, bare / "aligners")
    told = refused(capsys, bare, "--conditions", "depth", "--reference", "digits")
    assert "conditions: depth cannot be found in pictures" in told


@pytest.mark.parametrize(
    ("kept", "said"),
    [("0", "holds statistics alone; conditions need pictures"), ("40", "leaves no pictures for")],
)
def test_a_reference_that_leaves_no_pictures(model, tmp_path, capsys, kept, said):
    few = ["--size", "16x16", "--num-images", "80", "--keep-images", kept, "--device", "cpu"]
    file = keep(tmp_path, "real", "shapes", *few)
    told = refused(capsys, model, "--conditions", "edge", "--reference", str(file))
    assert f"reference: {file} {said}" in told

"""What ``eval/lacon.py`` refuses: exit code 2, one message, and nothing drawn."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffgen.cli import main
from diffgen.lacon.conditions import EDGE, MASK, Condition
from diffgen.lacon.fidelity import Fidelity, edge_f1, iou
from diffgen.lacon.strokes import palette_of
from diffgen.pipeline import DiffGenPipeline
from tests.e2e.lacon_sweeps import FAST, make_run, save_aligner
from tests.e2e.references import keep
from tests.tiny import build

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

F1, IOU = Fidelity("f1", True, edge_f1), Fidelity("overlap", True, iou)
unread = Condition("unread", 1, True, None, F1, stored="edge")
unknown = Condition("unknown", 1, True, None, F1)
elsewhere = Condition("elsewhere", 1, True, MASK.find, IOU, stored="normals")
two, twin = (Condition("two", 3, False, palette_of, F1) for _ in range(2))


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
        (["--conditions", "edge,depth"], "conditions: no aligner for depth in"),
        (["--conditions", "edge", "--no-floor"], "floor: no leaves no pictures"),
        (["--conditions", "edge", "--labels", "in_turn"], "labels: input should be 'auto'"),
        (["--conditions", "edge", "--profile", "adm"], "profile: input should be 'embedded'"),
        (["--conditions", "edge", "--until", "1"], "until: input should be less than 1"),
        (["--conditions", "edge", "--reference", "digits"], "reference: digits has too few"),
        (["--conditions", "edge", "--scales", "0"], "scales: [0.0] holds none above 0"),
        (["--conditions", "edge", "--scales", "1,1.0000001"], "holds two that are the same to"),
        (
            ["--conditions", "edge", "--evidence", "x.json"],
            "conditions edge, mask, palette at scale 1",
        ),
        (["--scales", "2", "--evidence", "x.json"], "edge, mask, palette at scale 1"),
        (["--conditions", "edge,edge"], "conditions: two are called 'edge'"),
        (["--conditions", "a:b,a/b"], "conditions: two are called 'a_b'"),
        (["--steps", "2"], "steps: give at least one, each once, not [2, 2]"),
    ],
)
def test_before_anything_is_opened(model, capsys, more, said):
    assert said in refused(capsys, model, *more)


def test_a_model_without_aligners_is_told_how_to_train_one(bare, capsys):
    told = refused(capsys, bare, "--conditions", "mask")
    assert f"python train/lacon.py {bare} --condition mask" in told
    assert told.count("\n") == 1


def test_an_aligner_of_another_backbone_or_condition_or_one_that_never_acts(model, bare, capsys):
    other = build(sample_size=(16, 16), depth=1)
    save_aligner(other, EDGE, bare / "aligners")
    assert "aligner of another model" in refused(capsys, bare, "--conditions", "edge")
    shutil.copytree(model / "aligners/mask", bare / "aligners/palette")
    told = refused(capsys, bare, "--conditions", "palette")
    assert "is an aligner of mask of 1 channels, but palette of 3" in told
    save_aligner(DiffGenPipeline.from_pretrained(bare), EDGE, bare / "aligners", until=1.0)
    assert "until: the aligner in" in refused(capsys, bare, "--conditions", "edge")


@pytest.mark.parametrize("name", ["unread", "unknown"])
def test_conditions_of_ones_own_that_cannot_be_found(bare, capsys, name):
    save_aligner(DiffGenPipeline.from_pretrained(bare), globals()[name], bare / "aligners")
    told = refused(capsys, bare, "--conditions", f"{__name__}:{name}")
    assert f"{name} cannot be found in pictures" in told


def test_maps_the_data_does_not_bring_are_found_in_pictures(bare, tmp_path):
    save_aligner(DiffGenPipeline.from_pretrained(bare), elsewhere, bare / "aligners")
    asked = ["--conditions", f"{__name__}:elsewhere", "--scales", "1"]
    assert main(["lacon-sweep", str(bare), *FAST, *asked, "--out", str(tmp_path / "s")]) == 0
    assert "elsewhere: overlap, higher is better" in (tmp_path / "s/sweep.md").read_text()


def test_two_conditions_of_one_name(bare, capsys):
    save_aligner(DiffGenPipeline.from_pretrained(bare), two, bare / "aligners")
    told = refused(capsys, bare, "--conditions", f"{__name__}:two,{__name__}:twin")
    assert "conditions: two are called 'two'" in told


@pytest.mark.parametrize("kept", ["0", "40"])
def test_a_reference_that_leaves_no_pictures(model, tmp_path, capsys, kept):
    few = ["--size", "16x16", "--num-images", "80", "--keep-images", kept, "--device", "cpu"]
    file = keep(tmp_path, "real", "shapes", *few)
    told = refused(capsys, model, "--conditions", "edge", "--reference", str(file))
    assert f"reference: {file} leaves no pictures for conditions" in told


def test_a_model_is_told_that_its_own_pictures_are_no_held_out_ones(model, tmp_path, capsys):
    (tmp_path / "real").mkdir()
    for k in range(40):
        pixels = np.random.default_rng(k).integers(256, size=(16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"real/{k}.png")
    copy = shutil.copytree(model, tmp_path / "model")
    (copy / "config.yaml").write_text(f"data: {{kind: folder, path: {tmp_path / 'real'}}}\n")
    asked = ["--conditions", "edge", "--scales", "1", "--reference", str(tmp_path / "real")]
    assert main(["lacon-sweep", str(copy), *FAST, *asked, "--out", str(tmp_path / "s")]) == 0
    assert "is what the model was trained on" in capsys.readouterr().err
    assert "a picture the model was trained on" in (tmp_path / "s/sweep.md").read_text()

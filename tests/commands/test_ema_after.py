"""``diffgen ema``, and evaluations of several widths of one run, as a user runs them."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from diffgen import DiffGenPipeline
from diffgen.cli import main
from diffgen.commands.ema_widths import width_table
from diffgen.config.evaluate import EvaluateConfig

# diffusers hands a tensor to numpy the old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

ROOT = Path(__file__).parents[2]
DEBUG = ["train", "--config", str(ROOT / "configs/debug.yaml"), "--device", "cpu"]
SCORE = ["--num-images", "16", "--steps", "1", "--device", "cpu", "--no-floor"]


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A finished training of 256 images with snapshots at 64, 128, 192 and 256."""
    out = tmp_path_factory.mktemp("runs") / "debug"
    none = ["--report.num-images", "0", "--report.sizes", "16x16", "--train.sample-images", "0"]
    assert main([*DEBUG, "--out", str(out), *none]) == 0
    return out


def weights(place: Path) -> dict[str, torch.Tensor]:
    return load_file(place / "pipeline/transformer/diffusion_pytorch_model.safetensors")


def test_a_tracked_width_is_the_snapshots_own(run, told):
    said = told("ema", str(run), "--width", "0.05")
    assert "width 0.05 at 256 images: tracked, taken from 000000256.safetensors" in said
    stored = load_file(run / "snapshots/000000256.safetensors")
    for name, tensor in weights(run / "ema-0.05").items():
        assert torch.equal(tensor, stored[f"power-0.05/{name}"])
    assert json.loads((run / "ema-0.05/average.json").read_text())["expected_error"] == 0


def test_a_rebuilt_width_lies_between_the_tracked_ones_and_is_drawn_from(run, told, tmp_path):
    said = told("ema", str(run), "--width", "0.08")
    assert "rebuilt from 4 snapshots, expected error" in said
    assert f"diffgen sample {run}/ema-0.08" in said
    stored = load_file(run / "snapshots/000000256.safetensors")
    name = next(key for key in weights(run / "ema-0.08") if key.endswith(".weight"))
    narrow, wide = stored[f"power-0.05/{name}"], stored[f"power-0.1/{name}"]
    found = weights(run / "ema-0.08")[name]
    gap = (wide - narrow).norm()
    assert (found - narrow).norm() < gap
    assert (found - wide).norm() < gap
    pipe = DiffGenPipeline.from_pretrained(run / "ema-0.08")
    assert list(pipe.config.class_names) == list(
        DiffGenPipeline.from_pretrained(run).config.class_names
    )
    drawn = ["--num-images", "2", "--steps", "1", "--device", "cpu"]
    told("sample", str(run / "ema-0.08"), *drawn, "--out", str(tmp_path / "drawn"))
    assert len(list((tmp_path / "drawn").rglob("*.png"))) >= 2


def test_an_earlier_time_has_a_folder_of_its_own_and_again_replaces_only_its_own(run, told):
    said = told("ema", str(run), "--width", "0.1", "--images", "128")
    assert "taken from 000000128.safetensors" in said
    assert (run / "ema-0.1-at-128/pipeline/model_index.json").exists()
    (run / "ema-0.1-at-128/evaluation-shapes-16x16.json").write_text("{}")
    told("ema", str(run), "--width", "0.1", "--images", "128")
    assert (run / "ema-0.1-at-128/evaluation-shapes-16x16.json").exists()


def test_an_unfinished_run_has_averages_too(run, told, tmp_path):
    """As a kill leaves it after two of four checkpoints."""
    part = tmp_path / "part"
    shutil.copytree(run, part)
    for file in part.glob("snapshots/*.safetensors"):
        if int(file.stem) > 128:
            file.unlink()
    said = told("ema", str(part), "--width", "0.07", "--out", str(tmp_path / "mine"))
    assert "width 0.07 at 128 images: rebuilt from 2 snapshots" in said
    assert (tmp_path / "mine/pipeline/model_index.json").exists()


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--width", "0.01"], "width 0.01 cannot be rebuilt from 4 snapshots"),
        (["--width", "0.3"], "width: input should be less than or equal to 0.25"),
        (["--width", "0.1", "--images", "63"], "images: 63 images, but the snapshots in"),
        (["--width", "0.1", "--images", "257"], "reach from 64 to 256 images"),
        ([], "width: is needed"),
    ],
)
def test_what_cannot_be_rebuilt_is_refused(run, told, argv, said):
    error = told("ema", str(run), *argv, expect=2)
    assert said in error
    assert error.count("\n") == 1


def test_other_folders_are_refused(run, told, tmp_path):
    other = tmp_path / "run"
    argv = ["ema", str(other), "--width", "0.08"]
    assert "run: " + str(other) + " does not exist" in told(*argv, expect=2)
    other.mkdir()
    assert "is no run; give a folder that" in told(*argv, expect=2)
    config = (run / "config.yaml").read_text()
    (other / "config.yaml").write_text(f"condition: edge\n{config}")
    assert "is a run of lacon; only those of train keep snapshots" in told(*argv, expect=2)
    (other / "config.yaml").write_text(config)
    assert "holds no snapshots yet" in told(*argv, expect=2)
    constant = tmp_path / "constant"
    shutil.copytree(run, constant, ignore=shutil.ignore_patterns("checkpoints", "snapshots"))
    text = config.split("\nema:\n")
    rest = text[1].split("\ntrain:\n")
    (constant / "config.yaml").write_text(f"{text[0]}\nema:\n  kind: constant\ntrain:\n{rest[1]}")
    argv[1] = str(constant)
    assert "keeps a constant average" in told(*argv, expect=2)
    argv[1] = str(run)
    assert "holds something else; name a new folder" in told(*argv, "--out", str(run), expect=2)
    assert (run / "config.yaml").exists()


def test_widths_are_scored_side_by_side_each_in_a_file_of_its_own(run, told):
    plain = ["eval", str(run), *SCORE]
    told(*plain)
    before = (run / "evaluation-shapes-16x16.json").read_bytes()
    said = told(*plain, "--ema", "0.05,0.075,0.1")
    assert (run / "evaluation-shapes-16x16.json").read_bytes() == before
    contents = {
        width: json.loads((run / f"evaluation-shapes-16x16-ema-{width:g}.json").read_text())
        for width in (0.05, 0.075, 0.1)
    }
    for width, found in contents.items():
        assert found["settings"]["ema"] == [width]
        assert found["average"]["width"] == width
        assert found["average"]["images"] == 256
    assert contents[0.1]["scores"] == json.loads(before)["scores"]  # what pipeline/ holds
    assert len({found["weights"] for found in contents.values()}) == 3
    assert len({found["scores"]["fid"] for found in contents.values()}) == 3
    rows = [line for line in said.splitlines() if line.startswith(("| 0.05 ", "| 0.075", "| 0.1 "))]
    assert [row.split(" | ")[2] for row in rows][::2] == ["tracked", "tracked"]
    assert "inconclusive" in said  # 16 images tell nothing
    files = [str(run / f"evaluation-shapes-16x16-ema-{width:g}.json") for width in contents]
    assert f"diffgen compare {' '.join(files)}" in said
    table = told("compare", *files, "--figures", "fid")
    assert table.count("## ") == 1
    assert all(Path(file).name in table for file in files)
    assert list(run.glob("*.parts")) == []

    told(*plain, "--ema", "0.075")
    again = json.loads((run / "evaluation-shapes-16x16-ema-0.075.json").read_text())
    assert again == contents[0.075] | {"settings": again["settings"]}
    assert list(run.glob("evaluation-*-2.json")) == []


def test_files_that_are_named_get_the_width_where_there_are_several(tmp_path):
    given = {"source": "r", "out": tmp_path / "a.json", "report": "r.md", "save": "pictures"}
    both = EvaluateConfig(**given, ema=[0.05, 0.1]).each()
    assert [one.ema for one in both] == [[0.05], [0.1]]
    assert [one.out.name for one in both] == ["a-ema-0.05.json", "a-ema-0.1.json"]
    assert [str(one.report) for one in both] == ["r-ema-0.05.md", "r-ema-0.1.md"]
    assert [str(one.save) for one in both] == ["pictures/ema-0.05", "pictures/ema-0.1"]
    one = EvaluateConfig(**given, ema=[0.05])
    assert one.each() == [one]


def test_widths_of_no_run_are_refused(run, told):
    scored = ["eval", str(run / "pipeline"), *SCORE, "--ema", "0.05"]
    assert f"source: {run}/pipeline is no run" in told(*scored, expect=2)
    scored[1] = str(run)
    assert "ema: must name every width once" in told(*scored[:-1], "0.05,0.050", expect=2)
    assert "ema: input should be less than or equal to 0.25" in told(*scored[:-1], "0.5", expect=2)
    assert "width 0.01 cannot be rebuilt" in told(*scored[:-1], "0.01", expect=2)


def saved(fids: dict[float, tuple[float, float, float]]) -> dict[Path, dict]:
    return {
        Path(f"{width:g}.json"): {
            "average": {"width": width, "images": 256, "expected_error": 0.0},
            "scores": {"fid": fid, **dict.fromkeys(OTHERS)},
            "intervals": {"fid": (low, high)},
        }
        for width, (low, fid, high) in fids.items()
    }


OTHERS = [
    *("fid_infinity", "sfid", "inception_score", "kid", "cmmd", "precision", "recall", "density"),
    *("coverage", "authenticity", "copied", "class_accuracy"),
]


def test_the_lowest_fid_is_called_inconclusive_where_intervals_overlap():
    table = list(width_table(saved({0.05: (5, 6, 7), 0.08: (4, 5, 5.5), 0.1: (6, 7, 8)})))
    assert any("width 0.08, but its interval overlaps that of 0.05: inconc" in row for row in table)
    table = list(width_table(saved({0.05: (5, 6, 7), 0.08: (3, 4, 4.5)})))
    assert "lowest FID: width 0.08; its interval lies below every other" in table

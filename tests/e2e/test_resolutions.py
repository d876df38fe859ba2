"""``eval/resolutions.py`` as a user runs it: table, picture grid, resuming cell by cell."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file

import diffgen.commands.resolutions as command
from diffgen.cli import main
from diffgen.commands.train import train
from diffgen.config.train import TrainConfig

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

SIZES = ["16x16", "24x16"]
ARGV = ["--num-images", "12", "--steps", "1", "--pictures", "3", "--device", "cpu"]


def run_folder(out: Path, kind: str) -> Path:
    model = {"depth": 1, "hidden_size": 32, "num_heads": 2, "position": {"kind": kind}}
    train(
        TrainConfig.model_validate(
            {
                "out": out,
                "device": "cpu",
                "data": {"kind": "shapes", "size": "16x16"},
                "model": model,
                "train": {"images": 16, "batch_size": 8, "sample_images": 0},
                "sampling": {"steps": 1},
                "report": {"sizes": ["16x16"], "num_images": 0},
            }
        )
    )
    return out


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for kind in ("rope", "rpe2d"):
        run_folder(folder / kind, kind)
    return folder


def recipe(folder: Path, out: Path, **changes) -> list[str]:
    settings = {
        "runs": [str(folder / "rope"), str(folder / "rpe2d")],
        "rows": [{"source": str(folder / "rope"), "scaling": "ntk", "name": "rope + NTK"}],
        "sizes": SIZES,
        "out": str(out),
        **changes,
    }
    file = out.parent / f"{out.name}.yaml"
    file.write_text(yaml.safe_dump(settings))
    return ["resolutions", "--config", str(file), *ARGV]


def test_a_table_a_grid_and_nothing_drawn_twice(runs, tmp_path, capsys, monkeypatch):
    argv = recipe(runs, tmp_path / "table")
    scored = []
    score = command.scored

    def noting(group, config, parts):
        scored.append((Path(config.source).name, config.size, config.scaling))
        return score(group, config, parts)

    monkeypatch.setattr(command, "scored", noting)
    assert main(argv) == 0
    names = [("rope", None), ("rpe2d", None), ("rope", "ntk")]
    assert scored == [(name, size, scaling) for size in SIZES for name, scaling in names]
    out = capsys.readouterr().out
    text = (tmp_path / "table/table.md").read_text()
    assert text.strip() in out
    table, told = text.split("\n\n")
    assert "FID by reader, then the share read" in told
    assert "12 images are too few for 64 features" in told
    head, _, *rows = table.splitlines()
    assert head == "| | 16x16 | 24x16 |"
    titles = [row.split("|")[1].strip() for row in rows]
    assert titles == ["rope", "rpe2d", "rope + NTK", "real against real"]

    table = json.loads((tmp_path / "table/table.json").read_text())
    assert len(table["cells"]) == 6
    for cell in table["cells"]:
        assert cell["counts"] == {"images": 12, "reference": 12, "floor": 12}
        low, high = cell["intervals"]["fid"]
        fid = f"{cell['scores']['fid']:.3g} [{low:.3g}, {high:.3g}]"
        shown = f"{fid}; {cell['scores']['class_accuracy']:.1%} ["
        place = 2 + table["sizes"].index(cell["size"])
        assert shown in rows[table["rows"].index(cell["row"])].split("|")[place]
    plain, scaled = (
        next(c for c in table["cells"] if (c["row"], c["size"]) == (row, "24x16"))
        for row in ("rope", "rope + NTK")
    )
    assert plain["weights"] == scaled["weights"]
    stored = json.loads((tmp_path / "table/cells/rope_+_NTK-24x16.json").read_text())
    assert stored["settings"]["scaling"] == "ntk"
    with Image.open(tmp_path / "table/grid.png") as grid:
        assert grid.width > 3 * (16 + 16) * 2

    scored.clear()
    assert main(argv) == 0
    assert scored == []
    (tmp_path / "table/cells/rpe2d-24x16.json").unlink()
    (tmp_path / "table/cells/rope-16x16.png").unlink()
    picture = tmp_path / "table/cells/rpe2d-16x16.png"
    picture.write_bytes(picture.read_bytes()[:-40])
    (tmp_path / "table/cells/rope_+_NTK-16x16.json").write_text('{"settings"')
    (tmp_path / "table/cells/rope_+_NTK-24x16.json").write_text('{"pictures": 3}')
    assert main(argv) == 0
    again = [("rope", "16x16", None), ("rpe2d", "16x16", None), ("rope", "16x16", "ntk")]
    assert scored == [*again, ("rpe2d", "24x16", None), ("rope", "24x16", "ntk")]
    assert json.loads((tmp_path / "table/table.json").read_text()) == table
    scored.clear()
    earlier = tmp_path / "table/cells/rope-16x16.json"
    content = json.loads(earlier.read_text())
    content["settings"]["guidance_scale"] = content["settings"].pop("guidance")["scale"]
    earlier.write_text(json.dumps(content))
    assert main(argv) == 0
    assert scored == []
    assert main([*argv, "--guidance.scale", "1.5"]) == 0
    assert len(scored) == 6


def test_cells_show_the_images_that_sampling_draws(runs, tmp_path):
    assert main(recipe(runs, tmp_path / "table")) == 0
    drawn = ["--size", "24x16", "--steps", "1", "--num-images", "3", "--out", str(tmp_path / "s")]
    assert main(["sample", str(runs / "rpe2d"), "--device", "cpu", *drawn]) == 0
    files = sorted((tmp_path / "s/24x16").glob("*.png"), key=lambda path: path.stem[-5:])
    with Image.open(tmp_path / "table/cells/rpe2d-24x16.png") as strip:
        assert strip.size == (3 * 16, 24)
        for k, file in enumerate(files):
            with Image.open(file) as image:
                piece = strip.crop((16 * k, 0, 16 * (k + 1), 24))
                a, b = (torch.tensor(list(z.convert("RGB").tobytes())) for z in (piece, image))
                assert (a - b).abs().max() <= 1  # another batch size


def test_every_size_has_a_reference_file_of_its_own(runs, tmp_path, capsys):
    for size in SIZES:
        file = str(tmp_path / f"ref-{size}.npz")
        argv = ["reference", "shapes", "--size", size, "--num-images", "30", "--device", "cpu"]
        assert main([*argv, "--out", file]) == 0
    argv = [
        "resolutions",
        str(runs / "rope"),
        *ARGV,
        "--reference",
        str(tmp_path / "ref-{size}.npz"),
    ]
    argv += [word for size in SIZES for word in ("--sizes", size)]
    assert main([*argv, "--out", str(tmp_path / "t")]) == 0
    for size in SIZES:
        cell = json.loads((tmp_path / f"t/cells/rope-{size}.json").read_text())
        assert cell["reference_file"]["size"] == size
        assert cell["settings"]["reference"].endswith(f"ref-{size}.npz")
    (tmp_path / "ref-24x16.npz").unlink()
    assert main([*argv, "--out", str(tmp_path / "t")]) == 2
    assert "ref-24x16.npz does not exist" in capsys.readouterr().err


def test_another_spelling_of_the_path_is_the_same_model(runs, tmp_path, monkeypatch):
    argv = ["--sizes", "16x16", "--out", str(tmp_path / "t"), *ARGV]
    assert main(["resolutions", str(runs / "rope"), *argv]) == 0
    monkeypatch.chdir(runs)
    monkeypatch.setattr(command, "scored", lambda *a: pytest.fail("drawn twice"))
    assert main(["resolutions", "./rope", *argv]) == 0


def test_a_changed_model_is_scored_anew(runs, tmp_path, monkeypatch):
    model = run_folder(tmp_path / "model", "sincos")
    argv = ["resolutions", str(model), "--sizes", "16x16", "--out", str(tmp_path / "t"), *ARGV]
    assert main(argv) == 0
    before = json.loads((tmp_path / "t/table.json").read_text())["cells"][0]
    weights = model / "pipeline/transformer/diffusion_pytorch_model.safetensors"
    other = run_folder(tmp_path / "other", "sincos") / weights.relative_to(model)
    tensors = load_file(other)
    tensors["final_layer.linear.bias"] += 0.5
    save_file(tensors, weights)
    assert main(argv) == 0
    after = json.loads((tmp_path / "t/table.json").read_text())["cells"][0]
    assert before["weights"] != after["weights"]
    assert before["scores"] != after["scores"]
    settings = model / "pipeline/transformer/config.json"
    settings.write_text(settings.read_text().replace('"interpolate": true', '"interpolate": false'))
    scored = []
    score = command.scored
    monkeypatch.setattr(command, "scored", lambda *a: scored.append(a) or score(*a))
    assert main(argv) == 0
    assert len(scored) == 1
    assert main(argv) == 0
    assert len(scored) == 1


def test_without_sizes_they_are_chosen_by_the_first_model(runs):
    from diffgen.config.resolutions import ResolutionsConfig

    config = ResolutionsConfig(runs=[str(runs / "rope")])
    assert config.columns() == ["16x16", "24x24", "32x32", "16x32", "32x16"]  # 12 is not readable


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"runs": ["nowhere"]}, "nowhere"),
        ({"sizes": ["16x16", "12x12"]}, "sizes: 12x12 is too small; the reader needs 16 pixels"),
        ({"rows": [{"source": "RUNS/rope", "name": 101 * "n"}]}, "rows[0].name"),
        ({"sizes": ["24x18"]}, "24x18 is not divisible by the patch size 4"),
        ({"sizes": ["36x16"]}, "rpe2d: size: 36x16 is over the range of the rpe2d encoding"),
        ({"rows": [{"source": "RUNS/rpe2d", "scaling": "ntk"}]}, "ntk needs a rotary encoding"),
        ({"rows": [{"source": "RUNS/rope"}]}, "two are called 'rope'"),
        (
            {
                "rows": [
                    {"source": "RUNS/rope", "name": "rope."},
                    {"source": "RUNS/rope", "name": "a b"},
                    {"source": "RUNS/rpe2d", "name": "a_b"},
                ]
            },
            "two are called 'a_b'",
        ),
        ({"rows": [{"source": "RUNS/rope", "scalng": "ntk"}]}, "rows[0].scalng: unknown field"),
        ({"runs": [], "rows": []}, "give at least one model"),
    ],
)
def test_mistakes_are_told_before_anything_is_drawn(runs, tmp_path, capsys, changes, message):
    for row in changes.get("rows", []):
        row["source"] = row["source"].replace("RUNS", str(runs))
    assert main(recipe(runs, tmp_path / "table", **changes)) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "table").exists()

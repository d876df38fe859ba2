"""eval/compare.py: figures stand in one column only where they may be compared."""

import copy
import json
from pathlib import Path

import pytest
import torch

from diffgen.cli import launch
from diffgen.data.pixels import to_pil, to_uint8
from diffgen.data.shapes import Shapes
from diffgen.metrics.comparison import verdict
from diffgen.metrics.intervals import mean_interval

FIDS = ("a.json", 5.0, (4.0, 6.0)), ("b.json", 6.5, (5.5, 7.5)), ("c.json", 9.0, (8.0, 10.0))


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """What an evaluation of 16 pictures saved."""
    folder = tmp_path_factory.mktemp("scored")
    shapes = Shapes(16, 16, "held_out")
    pixels = to_uint8(torch.stack([shapes[5000 + k][0] for k in range(16)]))
    for k, image in enumerate(to_pil(pixels)):
        image.save(folder / f"{k}.png")
    out = folder / "e.json"
    assert launch("eval", [str(folder), "--num-images", "16", "--out", str(out)], "eval") == 0
    return json.loads(out.read_text())


@pytest.fixture
def write(scored, tmp_path):
    """Writes a file of an evaluation of a model, with changes; gives its path."""

    def write(name="a.json", fid=5.0, interval=(4.0, 6.0), seed=0, **changes) -> str:
        content = copy.deepcopy(scored)
        content["weights"] = "ab" * 32
        content["settings"]["seed"] = seed
        content["scores"]["fid"], content["intervals"]["fid"] = fid, interval
        for path, value in changes.items():
            *above, last = path.split("__")
            place = content
            for key in above:
                place = place[key]
            place[last] = value
        file = tmp_path / name
        file.write_text(json.dumps(content))
        return str(file)

    return write


def compared(tmp_path, *argv: str) -> dict:
    """The comparison as JSON."""
    out = tmp_path / "out" / "comparison.json"
    assert launch("compare", [*argv, "--out", str(out)], "compare") == 0
    return json.loads(out.read_text())


def refusal(capsys, *argv: str) -> str:
    """The one message of a refused command."""
    assert launch("compare", list(argv), "compare") == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert said.count("\n") == 1
    return said


def guided(scale: float) -> dict:
    return {"settings__guidance": {"kind": "cfg", "scale": scale}}


def test_a_figure_is_higher_or_lower_only_where_intervals_do_not_meet(write, tmp_path, capsys):
    files = [write(*args, **guided(k)) for k, args in enumerate(FIDS)]
    (table,) = compared(tmp_path, *files)["tables"]
    first, second, third = table["rows"]
    assert first["against_first"] is None
    assert second["against_first"]["fid"] == "inconclusive"  # 5.5 to 7.5 meets 4 to 6
    assert third["against_first"]["fid"] == "higher"
    assert third["scores"]["fid"] == 9.0
    assert third["intervals"]["fid"] == [8.0, 10.0]
    assert third["against_first"]["precision"] == "inconclusive"  # the same figure
    said = capsys.readouterr().out
    assert "| a.json | 0 | guidance.scale 0.0 | 5 [4, 6] |" in said
    assert "| b.json | 0 | guidance.scale 1.0 | 6.5 [5.5, 7.5] inconclusive |" in said
    assert "| c.json | 0 | guidance.scale 2.0 | 9 [8, 10] higher |" in said
    (table,) = compared(tmp_path, *reversed(files))["tables"]
    assert table["rows"][2]["against_first"]["fid"] == "lower"


def test_an_unknown_interval_decides_nothing(write, tmp_path):
    files = [write("a.json", 1.0), write("b.json", 900.0, None, **guided(4))]
    (table,) = compared(tmp_path, *files)["tables"]
    assert table["rows"][1]["against_first"]["fid"] == "inconclusive"


def test_files_that_differ_in_the_seed_alone_are_averaged(write, tmp_path, capsys):
    near, far = [5.0, 5.2, 5.4], [7.0, 7.1, 7.5]
    recall = [0.3, 0.1 + 0.2, 0.3]  # equal but for rounding
    files = [
        write(f"n{k}.json", fid, seed=k, scores__recall=recall[k]) for k, fid in enumerate(near)
    ]
    files += [write(f"f{k}.json", fid, seed=k, **guided(4)) for k, fid in enumerate(far)]
    (table,) = compared(tmp_path, *files)["tables"]
    one, other = table["rows"]
    assert one["seeds"] == other["seeds"] == [0, 1, 2]
    assert one["files"] == files[:3]
    assert one["scores"]["fid"] == pytest.approx(5.2)
    assert other["intervals"]["fid"] == pytest.approx(list(mean_interval(far)))
    by_student = verdict(mean_interval(far), mean_interval(near))
    assert other["against_first"]["fid"] == by_student == "higher"
    assert "| n0.json and 2 more | 0, 1, 2 | guidance.scale" in capsys.readouterr().out
    # Equal values of every seed have no spread, which would decide everything.
    first = json.loads(Path(files[0]).read_text())["intervals"]
    for name in ("precision", "recall"):
        assert one["intervals"][name] == first[name]


def test_a_figure_that_one_seed_lacks_is_not_averaged(write, tmp_path):
    files = [write("a.json"), write("b.json", None, None, seed=1)]
    (table,) = compared(tmp_path, *files)["tables"]
    (row,) = table["rows"]
    assert "fid" not in row["scores"]
    assert "precision" in row["scores"]


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("profile", "adm", "profile"),
        ("size", "32x32", "size"),
        ("counts__images", 512, "images"),
        ("counts__reference", 512, "real images"),
        ("places__reference", "digits", "reference"),
        ("reference_data", {"kind": "folder", "path": "/val"}, "reference data.path"),
        ("reference_colour__contrast", 0.5, "reference colour.contrast"),
        ("left_out__reference", ["x.png"], "damaged real images"),
        ("labels", "the classes in turn", "labels"),
        ("settings__k", 5, "k"),
        ("settings__density_k", 9, "density_k"),
        ("settings__rule", "strict", "rule"),
        ("settings__splits", "in_order", "splits"),
        ("settings__manifold_images", 8, "manifold_images"),
        ("quantisation", "floor", "quantisation"),
        ("conventions__kid", "biased", "conventions.kid"),
        ("extractor__weights_sha256", "00", "extractor.weights_sha256"),
        ("extractor__preprocessing", "none", "extractor.preprocessing"),
        ("against__features__sha256", "00", "against.features.sha256"),
        ("against__features__count", 50_000, "against.features.count"),
    ],
)
def test_what_means_something_else_is_never_put_into_one_column(
    write, tmp_path, capsys, path, value, named
):
    found = compared(tmp_path, write(), write("b.json", **{path: value}))
    assert [len(table["rows"]) for table in found["tables"]] == [1, 1]
    assert named in found["apart"]
    assert all(table["rows"][0]["against_first"] is None for table in found["tables"])
    said = capsys.readouterr().out
    assert "not to be compared with each other. They differ in:" in said
    assert f"- {named}: " in said


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("processes", 2),
        ("settings__batch_size", 8),
        ("settings__out", "elsewhere.json"),
        ("floor", None),
        ("extractor__title", "another"),
    ],
)
def test_what_leaves_the_figures_as_they_are_keeps_nothing_apart(write, tmp_path, path, value):
    found = compared(tmp_path, write(), write("b.json", seed=1, **{path: value}))
    assert found["apart"] == {}
    assert len(found["tables"][0]["rows"]) == 1


def test_every_network_has_its_own_table(scored, write, tmp_path):
    more = {
        name: scored[name]
        for name in ("scores", "intervals", "floor", "not_available", "notes", "against")
    }
    other = {**more, "extractor": {**scored["extractor"], "name": "inception"}}
    files = [write(), write("b.json", further=[other], **guided(4))]
    files.append(write("c.json", extractor=other["extractor"], **guided(8)))
    found = compared(tmp_path, *files)
    names = [[row["files"][0].split("/")[-1] for row in table["rows"]] for table in found["tables"]]
    assert names == [["a.json", "b.json"], ["b.json", "c.json"]]
    assert found["apart"] == {"extractor.name": ["reader", "inception"]}


def test_asked_for_columns_alone_are_printed_and_saved(write, tmp_path, capsys):
    out = tmp_path / "comparison.md"
    argv = [write(), write("b|<script>.json", **guided(4))]
    argv += ["--figures", "precision,fid", "--out", str(out)]
    assert launch("compare", argv, "compare") == 0
    text = out.read_text()
    assert text.strip() in capsys.readouterr().out
    assert "| evaluation | seeds | set apart by | precision | FID |" in text
    assert r"| b\|\<script>.json | 0 |" in text
    assert "| real against real | - |" in text
    assert "fidd is none of" in refusal(capsys, *argv[:2], "--figures", "fidd")


def test_the_same_evaluation_twice_is_no_second_seed(write, capsys):
    said = refusal(capsys, write(), write("b.json", fid=5.1))
    assert "a.json and" in said
    assert "same evaluation (of the same source, by the same settings, seed 0)" in said
    stored = [write(f"{k}.json", seed=k, weights=None) for k in range(2)]
    assert "are the same evaluation" in refusal(capsys, *stored)  # pictures know no seed


def test_bad_files_get_one_message_each(write, tmp_path, capsys):
    good, out = write(), str(tmp_path / "x.txt")
    (tmp_path / "text.json").write_text("{")
    (tmp_path / "list.json").write_text("[]")
    text, listed = str(tmp_path / "text.json"), str(tmp_path / "list.json")
    assert "files: a comparison needs two evaluations or more, got 1" in refusal(capsys, good)
    assert "nowhere.json is not a file" in refusal(capsys, good, "nowhere.json")
    assert "text.json is no evaluation, it cannot be read" in refusal(capsys, good, text)
    assert "list.json is no evaluation: its schema is None" in refusal(capsys, good, listed)
    older = write("b.json", schema="diffgen-evaluation/1")
    assert "b.json is an older evaluation (diffgen-evaluation/1)" in refusal(capsys, good, older)
    other = write("b.json", schema="diffgen-sweep/1")
    assert "its schema is diffgen-sweep/1, not diffgen-evaluation/2" in refusal(capsys, good, other)
    broken = write("b.json", interval=(6.0, 4.0))
    assert "b.json is a damaged evaluation: ValueError" in refusal(capsys, good, broken)
    lacking = write("b.json", settings=None)
    assert "b.json is a damaged evaluation" in refusal(capsys, good, lacking)
    assert "out: " + out + " must end in .md or .json" in refusal(
        capsys, good, write("b.json"), "--out", out
    )
    assert "is one of the evaluations" in refusal(capsys, good, write("b.json"), "--out", good)

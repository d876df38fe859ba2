"""``eval/joint.py`` as a user runs it, on a tiny model with untrained modules beside it."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from diffgen.cli import main
from diffgen.commands.joint_eval.measures import next_of_class
from diffgen.data.pixels import from_uint8, to_uint8
from diffgen.joint.maps import as_picture, from_picture
from diffgen.lacon.conditions import DEPTH, EDGE
from diffgen.lacon.fidelity import edge_f1
from diffgen.pipeline import DiffGenPipeline
from tests.e2e.joint_evals import (
    QUICK,
    argv,
    cell,
    exact,
    figures,
    jointly,
    make_joint_run,
    save_modules,
    strip,
)
from tests.e2e.lacon_sweeps import constraint, draw, held_out, make_run, save_aligner
from tests.tiny import build

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]


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


def edges(pictures: Tensor) -> Tensor:
    return EDGE.of(from_uint8(to_uint8(pictures)))


def test_the_table_has_a_line_a_condition_and_row(scored):
    lines = [line.split("|") for line in (scored / "joint.md").read_text().splitlines()]
    found = [(line[1].strip(), line[2].strip()) for line in lines[2:] if len(line) > 1]
    for name, other, blind in (("depth", "edge", 4), ("edge", "depth", 0)):
        titles = [title for condition, title in found if condition == name]
        assert titles[:4] == [
            "base, without a map",
            "image from map",
            "image from depth and edge",
            f"image from {other} alone",
        ]
        assert sum(title.startswith("best ") for title in titles) == blind
        assert titles[-1] == "real pictures"
        assert len(titles) == 11 + blind
    sweep = json.loads((scored / "joint.json").read_text())
    rows = {(one["condition"], one["row"]): one["figures"] for one in sweep["rows"]}
    assert rows["edge", "given"]["fid"]["mean"] == cell(scored, "edge-given")["scores"]["fid"]
    assert rows["edge", "other"]["fid"] is None
    assert rows["edge", "maps"]["seconds"] is None
    assert rows["edge", "given"]["times"]["mean"] > rows["edge", "base"]["times"]["mean"] == 1
    assert rows["edge", "real"]["fidelity"]["mean"] > 0.9 > rows["edge", "base"]["fidelity"]["mean"]
    blind = ("fixed_class", "fixed", "constants", "constant")
    means = [rows["depth", name]["abs_rel"]["mean"] for name in blind]
    assert means == sorted(means)
    assert {(one["condition"], one["kind"]) for one in sweep["budgets"]} == {
        (name, kind) for name in ("depth", "edge") for kind in ("adapter", "aligner", "channels")
    }
    assert all(one["parameters"] > 0 and one["images"] is None for one in sweep["budgets"])
    assert not list(scored.glob("cells/*.parts"))


def test_images_are_drawn_from_the_maps_of_their_pictures(model, scored):
    maps = exact(EDGE)
    images = jointly(model, EDGE, edge=maps).images
    assert torch.equal(strip(scored, "edge-given")[0], to_uint8(images)[:3])
    assert not torch.equal(strip(scored, "base")[0], to_uint8(images)[:3])
    found, under = (
        figures(scored, "edge-given")["given"],
        jointly(model, EDGE, edge=maps.roll(-1, 0)),
    )
    for what, seen in (("fidelity", images), ("first", images), ("control", under.images)):
        assert found[what] == pytest.approx(float(edge_f1(edges(seen), maps).mean()), abs=1e-6)


def test_maps_are_drawn_from_the_pictures_with_their_class_and_without(model, scored):
    pictures = from_uint8(to_uint8(held_out()[0]))
    for row, told in (("maps", True), ("untold", False)):
        maps = jointly(model, EDGE, classes=told, image=pictures).conditions["edge"]
        drawn = to_uint8(as_picture(maps, EDGE))
        assert torch.equal(strip(scored, "edge-given")[1], drawn[:3]) == told
        again, found = from_picture(from_uint8(drawn), EDGE), figures(scored, "edge-given")[row]
        f1 = float(edge_f1(again, exact(EDGE)).mean())
        assert found["fidelity"] == pytest.approx(f1, abs=1e-6)


def test_pairs_are_held_against_their_own_maps_and_the_next_ones_of_their_class(model, scored):
    both = jointly(model, EDGE)
    drawn = to_uint8(as_picture(both.conditions["edge"], EDGE))
    for row, seen in zip(strip(scored, "edge-joint"), (to_uint8(both.images), drawn), strict=True):
        assert torch.equal(row, seen[:3])
    found, maps = figures(scored, "edge-joint"), from_picture(from_uint8(drawn), EDGE)
    for row, wanted in (("joint", maps), ("shuffled", maps[next_of_class(held_out()[1])])):
        f1 = float(edge_f1(edges(both.images), wanted).mean())
        assert found[row]["fidelity"] == pytest.approx(f1, abs=1e-6)
    assert found["joint"] != found["shuffled"]


def test_two_conditions_are_given_together(model, scored):
    maps, depth = exact(EDGE), exact(DEPTH)
    images = jointly(model, DEPTH, EDGE, depth=depth, edge=maps).images
    assert torch.equal(strip(scored, "depth+edge-given")[0], to_uint8(images)[:3])
    alone = jointly(model, DEPTH, depth=depth).images
    for name, row, seen in (("depth+edge", "pair", images), ("depth", "other", alone)):
        found = figures(scored, f"{name}-given")[row]["fidelity"]
        assert found == pytest.approx(float(edge_f1(edges(seen), maps).mean()), abs=1e-6)


def test_baselines_are_the_late_constraint_and_models_of_more_channels(model, scored, tmp_path):
    late = draw(model, constraint(model, EDGE, exact(EDGE), 1.0))
    assert torch.equal(strip(scored, "edge-lacon")[0], late[:3])
    save_modules(model, EDGE, None, "fresh")  # whose new channels do nothing yet
    fresh = ["--adapters", str(model / "fresh"), "--baselines", "channels"]
    assert main(argv(model, tmp_path / "s", *fresh, of="edge")) == 0
    base = strip(scored, "base")[0]
    for name, own in (("edge-channels", tmp_path / "s"), ("edge-given", tmp_path / "s")):
        assert torch.equal(strip(own, name)[0], base)
        assert not torch.equal(strip(scored, name)[0], base)
    found = figures(scored, "edge-channels")["channels"]
    assert found["control"] != found["fidelity"]
    assert not list((tmp_path / "s/cells").glob("*lacon*"))


def test_a_model_of_latents_and_a_folder_of_pictures(make_vae, work, tmp_path):
    run = make_run(tmp_path)
    tiny = build(in_channels=4, sample_size=(8, 8))
    form = {"factor": 2, "mean": [0.0] * 4, "std": [1.0] * 4}
    names = tiny.config.class_names
    pipe = DiffGenPipeline(tiny.transformer, tiny.scheduler, names, latent_format=form)
    pipe.save_pretrained(run / "pipeline")
    save_aligner(pipe, EDGE, run / "aligners")
    save_modules(run, EDGE, 0)
    asked = ["--vae", str(make_vae()), "--reference", str(work / "real"), "--size", "24x32"]
    out = ["--conditions", "edge", "--out", str(tmp_path / "s")]
    assert main(["joint-eval", str(run), *QUICK, *asked, *out]) == 0
    found = figures(tmp_path / "s", "edge-given")
    assert 0 < found["maps"]["fidelity"] < 1
    assert cell(tmp_path / "s", "edge-channels")["size"] == "24x32"
    assert {one["row"] for one in json.loads((tmp_path / "s/joint.json").read_text())["rows"]} == {
        *("base", "real", "given", "maps", "untold", "joint", "shuffled", "lacon", "channels")
    }

"""Figures of ``joint-eval``, of made-up numbers and of drawn pictures."""

import json
from pathlib import Path

import pytest
import torch

from diffgen.commands.joint_eval.measures import (
    drawn_maps,
    next_of_class,
    of_nothing,
    read,
    row,
)
from diffgen.commands.joint_eval.modules import Module, budget, held_out
from diffgen.commands.joint_eval.table import row_figures
from diffgen.commands.lacon_sweep.wanted import Asked, Wanted
from diffgen.commands.sweeps import figure
from diffgen.config.data import ShapesConfig
from diffgen.config.joint_eval import JointEvalConfig
from diffgen.data.pixels import to_uint8
from diffgen.data.source import build_images
from diffgen.joint.adapter import JointAdapter
from diffgen.joint.maps import as_picture
from diffgen.lacon.conditions import DEPTH, EDGE
from diffgen.lacon.maps import maps_of
from diffgen.metrics.reader import load_reader
from tests.tiny import build


def shapes(condition, count: int) -> tuple[Asked, torch.Tensor]:
    """What is asked for by held-out shapes, and these, (n, 3, 32, 32) uint8."""
    source = build_images(ShapesConfig(size="32x32"), "held_out")
    pictures = to_uint8(torch.stack([source[k][0] for k in range(count)]))
    return Asked(condition, maps_of(source, range(count), condition), True, Path()), pictures


class TestMeasures:
    def test_figures_of_depth_are_in_its_own_units(self):
        wanted = DEPTH.from_stored(torch.tensor([4.0, 8.0]).reshape(2, 1, 1, 1))
        found = DEPTH.from_stored(torch.tensor([5.5, 8.0]).reshape(2, 1, 1, 1))
        figures = row(DEPTH, found, wanted, first=1)
        assert figures["fidelity"]["mean"] == pytest.approx(1.5 / 9 / 2)
        assert figures["first"]["mean"] == pytest.approx(1.5 / 9)
        assert figures["abs_rel"]["mean"] == pytest.approx(1.5 / 4 / 2)
        assert figures["delta1"]["mean"] == 0.5
        assert set(row(EDGE, wanted, wanted)) == {"fidelity"}

    def test_maps_that_were_drawn_as_pictures_err_by_rounding_alone(self):
        for condition, low in ((DEPTH, 0), (EDGE, 1)):
            asked, _ = shapes(condition, 6)
            drawn = drawn_maps(condition, to_uint8(as_picture(asked.maps, condition)))
            found = row(condition, drawn, asked.maps)["fidelity"]["mean"]
            assert found == pytest.approx(low, abs=1 / 510)

    def test_the_reader_is_nearer_to_real_depth_than_what_never_looks(self):
        asked, pictures = shapes(DEPTH, 80)  # more than one batch
        real = row(DEPTH, read(asked, pictures, load_reader()), asked.maps)["abs_rel"]["mean"]
        blind = {name: found["abs_rel"]["mean"] for name, found in of_nothing(asked, None).items()}
        assert set(blind) == {"constant", "constants", "fixed"}
        assert real < blind["fixed"] / 2 < blind["constants"] / 2 < blind["constant"] / 2
        assert of_nothing(shapes(EDGE, 2)[0], None) == {}

    def test_a_fixed_map_of_each_class_is_of_its_pictures_alone(self):
        asked, _ = shapes(DEPTH, 4)
        halves = [Asked(DEPTH, asked.maps[[k, k + 2]], True, Path()) for k in (0, 1)]
        means = [of_nothing(half, None)["fixed"]["abs_rel"]["mean"] for half in halves]
        found = of_nothing(asked, [7, 3, 7, 3])["fixed_class"]["abs_rel"]["mean"]
        assert found == pytest.approx(sum(means) / 2)
        alone = of_nothing(asked, [0, 1, 2, 3])["fixed_class"]  # each is its own map
        assert alone["abs_rel"]["mean"] == pytest.approx(0, abs=1e-6)


def test_the_next_of_a_class_comes_round_and_one_alone_gets_the_next_of_all():
    assert next_of_class([2, 0, 2, 1, 2, 0]) == [2, 5, 4, 4, 0, 1]


def test_a_budget_is_what_the_training_says_and_its_log_took(tmp_path):
    adapter = JointAdapter.of(build().transformer, "depth", 1, False, rank=2)
    adapter.save_pretrained(tmp_path / "adapter")
    module = Module("depth", "adapter", tmp_path)
    parameters = sum(one.numel() for one in adapter.parameters())
    nothing = dict.fromkeys(("images", "batch_size", "optimizer", "seconds"))
    assert budget(module) == {**nothing, "parameters": parameters}
    (tmp_path / "config.yaml").write_text(
        "optimizer: {kind: muon}\ntrain: {images: 300, batch_size: 10}\n"
    )
    lines = [{"images": 100, "images_per_second": 50.0}, {"images": 300, "images_per_second": 25.0}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    assert budget(module) == {
        **{"images": 300, "batch_size": 10, "optimizer": "muon"},
        **{"parameters": parameters, "seconds": 10.0},
    }


@pytest.mark.parametrize("place", [".", "joint/edge", "joint/edge-channels", "aligners/edge"])
def test_pictures_that_anything_was_trained_on_are_not_held_out(tmp_path, place):
    run, pictures = tmp_path / "run", tmp_path / "pictures"
    build().save_pretrained(run / "pipeline")
    pictures.mkdir()
    config = JointEvalConfig(source=str(run), reference=str(pictures), conditions=["edge"])
    asked, seen = shapes(EDGE, 2)
    wanted, file = Wanted(seen, "32x32", {"edge": asked}), run / place / "config.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"data: {{kind: folder, path: {tmp_path / 'others'}}}\n")
    assert held_out(config, wanted)
    file.write_text(f"data: {{kind: folder, path: {pictures}}}\n")
    assert not held_out(config, wanted)


def test_a_row_has_the_scores_of_its_cell_only_where_it_is_of_the_cells_images():
    measured = {"rows": {"edge": {"given": {"fidelity": 1}, "maps": {"fidelity": 2}, "real": {}}}}
    content = {
        "measured": {**measured, "seconds": 3, "times": 4},
        "scores": {"fid": 5.0},
        "intervals": {"fid": (4, 6)},
        "floor": {"scores": {"fid": 7.0}},
    }
    given, maps, real = (row_figures(content, "edge", row) for row in ("given", "maps", "real"))
    assert (given["fidelity"], given["fid"], given["times"]) == (1, figure(5.0, (4, 6)), 4)
    assert (maps["fidelity"], maps["fid"], maps["times"]) == (2, None, None)
    assert (real["fid"], real["seconds"]) == (figure(7.0), None)

"""Figures of ``joint-eval``, of made-up numbers and of drawn pictures."""

from pathlib import Path

import pytest
import torch

from diffgen.commands.joint_eval.measures import drawn_maps, of_nothing, read, row
from diffgen.commands.joint_eval.table import row_figures
from diffgen.commands.lacon_sweep.wanted import Asked
from diffgen.commands.sweeps import figure
from diffgen.config.data import ShapesConfig
from diffgen.data.pixels import to_uint8
from diffgen.data.source import build_images
from diffgen.joint.maps import as_picture
from diffgen.lacon.conditions import DEPTH, EDGE
from diffgen.lacon.maps import maps_of
from diffgen.metrics.reader import load_reader


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

    def test_exact_maps_that_were_drawn_as_pictures_err_by_rounding_alone(self):
        for condition, low in ((DEPTH, 0), (EDGE, 1)):
            asked, _ = shapes(condition, 6)
            drawn = drawn_maps(condition, to_uint8(as_picture(asked.maps, condition)))
            found = row(condition, drawn, asked.maps)["fidelity"]["mean"]
            assert found == pytest.approx(low, abs=1 / 510)

    def test_the_reader_is_nearer_to_real_depth_than_the_best_constants(self):
        asked, pictures = shapes(DEPTH, 80)  # more than one batch
        real = row(DEPTH, read(asked, pictures, load_reader()), asked.maps)["abs_rel"]["mean"]
        one, each = (
            of_nothing(asked)[name]["abs_rel"]["mean"] for name in ("constant", "constants")
        )
        assert real < each / 2 < each < one
        assert of_nothing(shapes(EDGE, 2)[0]) == {}


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

"""Figures, cells and claims of ``lacon-sweep``, of made-up numbers and of drawn pictures."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from diffgen.commands.lacon_sweep.command import sweep_cells
from diffgen.commands.lacon_sweep.evidence import claim
from diffgen.commands.lacon_sweep.finished import SCHEMA, Measured, finished
from diffgen.commands.lacon_sweep.table import FIGURES, cell_figures, markdown
from diffgen.commands.lacon_sweep.wanted import Asked, Wanted
from diffgen.commands.sweeps import figure, over, over_seeds
from diffgen.config.data import ShapesConfig
from diffgen.config.lacon_sweep import LaconSweepConfig
from diffgen.data.pixels import from_uint8, to_uint8
from diffgen.data.source import build_images
from diffgen.errors import UserError
from diffgen.lacon.conditions import DEPTH, EDGE, MASK, PALETTE, Condition
from diffgen.lacon.edges import canny_edges
from diffgen.lacon.fidelity import edge_f1
from diffgen.lacon.maps import has_own_maps, maps_of
from diffgen.metrics.reader import Reader, load_reader


def shapes(condition: Condition, *numbers: int) -> tuple[Asked, torch.Tensor]:
    """What is asked for by held-out shapes, and these, (n, 3, 32, 32) in [-1, 1]."""
    source = build_images(ShapesConfig(size="32x32"), "held_out")
    pictures = torch.stack([source[k][0] for k in numbers])
    own = has_own_maps(source, condition)
    return Asked(condition, maps_of(source, numbers, condition), own, Path()), pictures


@pytest.fixture(scope="module")
def reader() -> Reader:
    return load_reader()


class TestAsked:
    def test_the_reader_reads_what_it_knows_and_rules_read_the_rest(self):
        found = [shapes(condition, 1)[0].by_reader for condition in (MASK, DEPTH, EDGE, PALETTE)]
        assert found == [True, True, False, False]
        assert not replace(shapes(MASK, 1)[0], own=False).by_reader

    def test_the_readers_map_is_where_its_logits_are_positive(self, reader):
        asked, wanted = shapes(MASK, 3, 4, 5)
        pictures = to_uint8(wanted)
        logits = reader(from_uint8(pictures)).mask
        assert torch.equal(asked.found(pictures, reader), (logits > 0).float())

    def test_real_pictures_meet_their_own_maps_all_but_for_rounding_and_reading(self, reader):
        edge, wanted = shapes(EDGE, *range(80))
        pictures = to_uint8(wanted)
        edges = edge_f1(canny_edges(from_uint8(pictures)), canny_edges(wanted)).tolist()
        assert edge.fidelity(pictures, reader) == edges  # more than one batch
        assert 0.9 < sum(edges) / 80 < 1
        for condition, low, high in ((MASK, 0.9, 1), (DEPTH, 0, 0.1), (PALETTE, 0, 1 / 255)):
            found = shapes(condition, *range(80))[0].fidelity(pictures, reader)
            assert low < sum(found) / 80 < high

    def test_image_k_is_held_against_map_k(self, reader):
        asked, wanted = shapes(EDGE, *range(10))
        pictures = to_uint8(wanted)
        own, shifted = (asked.fidelity(x, reader) for x in (pictures, pictures.roll(1, 0)))
        assert min(own) > 0.6 > max(shifted)

    def test_other_maps_and_other_weights_have_other_digests(self, tmp_path):
        one, other = shapes(EDGE, 1, 2)[0], shapes(EDGE, 1, 3)[0]
        assert one.digest == shapes(EDGE, 1, 2)[0].digest != other.digest
        (tmp_path / "aligner").mkdir()
        digests = set()
        for weights in (b"1", b"2"):
            (tmp_path / "aligner/weights").write_bytes(weights)
            digests.add(replace(one, folder=tmp_path).aligner)
        assert len(digests) == 2


def content(fidelity: float, control: float | None = None) -> dict:
    measured = {
        "fidelity": {"edge": over([fidelity - 0.1, fidelity + 0.1])},
        "first": {"edge": over([fidelity - 0.1])},
        "control": {} if control is None else {"edge": over([control])},
        "variation": over([0.2, 0.3]),
        "seconds": figure(3.0),
        "times": figure(2.0),
    }
    scores = {"fid": -0.5, "class_accuracy": 1.0}
    intervals = {"fid": (-1, 0), "class_accuracy": (0.9, 1.0)}
    return {"measured": measured, "scores": scores, "intervals": intervals}


class TestFigures:
    def test_of_independent_values_the_mean_and_students_interval(self):
        found = over([0.4, 0.6])
        assert found["mean"] == pytest.approx(0.5)
        low, high = found["interval"]
        assert high - low == pytest.approx(2 * 12.7062047 * 0.1)
        assert over([0.4, None]) is None

    def test_figures_of_a_cell_are_those_it_holds(self):
        found = cell_figures(content(0.5, control=0.1), "edge")
        assert list(found) == list(FIGURES)
        assert found["times"] == figure(2.0)
        assert found["control"] == figure(0.1)
        assert found["first"] == figure(0.4)
        assert found["fid"] == figure(-0.5, (-1, 0))
        assert found["recall"] is None
        assert cell_figures(content(0.2), "edge")["control"] is None

    def test_intervals_are_over_images_with_one_seed_and_else_over_seeds(self):
        one, two = (cell_figures(content(fidelity), "edge") for fidelity in (0.4, 0.6))
        assert over_seeds([one]) == one
        assert over_seeds([one, two])["fidelity"] == over([0.4, 0.6])
        assert over_seeds([one, two])["recall"] is None

    def test_a_line_of_the_table_has_a_cell_a_figure(self, tmp_path):
        sweep = made_up(tmp_path, 3)
        figures = cell_figures(content(0.5, control=-0.1), "edge")
        sweep["cells"] = [{"condition": "edge", "steps": 20, "scale": 1.0, "figures": figures}]
        sweep["real"] = {"edge": {**dict.fromkeys(FIGURES), "first": figure(1.0)}}
        head, _, line, last, *rest = markdown(sweep)
        assert [one.count("|") for one in (head, line, last)] == [len(FIGURES) + 4] * 3
        # FID alone is shown as 0 below it, and of an uneven interval the longer side
        assert line.startswith("| edge | 20 | 1 | 0.5 ± 1.3 | 0.4 | -0.1 | 0 ± 0.5 | - |")
        assert "| 1 ± 0.1 |" in line
        assert last.startswith("| edge | | real | - | 1 | - |")
        assert "Classes: as in the pictures." in rest[-1]


class TestCells:
    def test_cells_of_another_aligner_or_other_maps_are_others(self, tmp_path):
        config = LaconSweepConfig(
            source="x", conditions=["edge", "mask"], scales=[0, 2, 1], steps=[9], out=tmp_path
        )

        def cells(edges: int, weights: bytes) -> dict:
            (tmp_path / "aligner").mkdir(exist_ok=True)
            (tmp_path / "aligner/weights").write_bytes(weights)
            asked = {"edge": shapes(EDGE, edges)[0], "mask": shapes(MASK, 1)[0]}
            asked = {name: replace(one, folder=tmp_path) for name, one in asked.items()}
            return dict(sweep_cells(config, Wanted(torch.empty(0), "32x32", asked)))

        before = cells(1, b"1")
        assert [place[:3] for place in before] == [
            (name, 9, scale) for name in ("edge", "mask") for scale in (0.0, 1.0, 2.0)
        ]
        assert before["edge", 9, 0.0, 0] == before["mask", 9, 0.0, 0]
        assert len({cell.file for cell in before.values()}) == 5
        for after, changed in (
            (cells(2, b"1"), [("edge", 0), ("edge", 1), ("edge", 2), ("mask", 0)]),
            (cells(1, b"2"), [(name, scale) for name in ("edge", "mask") for scale in (1, 2)]),
        ):
            differ = [place for place in before if before[place].config != after[place].config]
            assert [(name, scale) for name, _, scale, _ in differ] == changed


def made_up(tmp_path, seed: int, mask: float = 0.9, control: float = 0, **settings) -> dict:
    """A sweep of a model that meets its conditions, up to ``mask`` at scale 1.

    ``control``: the share of the way to what is met that images under other maps go.
    """
    figures = {"edge": (0.15, 0.6), "mask": (0.4, mask), "palette": (0.2, 0.05)}
    real = {"edge": 0.97, "mask": 0.96, "palette": 0.0}
    config = LaconSweepConfig(source=f"m{seed}", out=tmp_path / f"s{seed}", **settings)
    off = 0.01 * (seed % 3)

    def one(value: float, fid: float, other: float | None) -> dict:
        names = {"fidelity": value + off, "first": value + 2 * off, "fid": fid + off}
        names |= {"fid_infinity": fid - 4, "control": other and other + 2 * off}
        return {k: None if v is None else {"mean": v, "interval": None} for k, v in names.items()}

    return {
        "schema": SCHEMA,
        "settings": config.model_dump(mode="json"),
        "size": "32x32",
        "counts": {"images": 256},
        "labels": "as in the pictures",
        "weights": f"w{seed}",
        "model": f"runs/m{seed}",
        "commands": [f"python eval/lacon.py runs/m{seed}"],
        "training_seed": seed,
        "held_out": True,
        "processes": 1,
        "conditions": {
            name: {"figure": name, "higher": name != "palette", "read_by": "it", "until": 0.4}
            for name in figures
        },
        "again": 64,
        "steps": [20],
        "scales": [0.0, 1.0],
        "seeds": [0],
        "real": {name: one(value, 5.0, None) for name, value in real.items()},
        "cells": [
            {"condition": name, "steps": 20, "scale": scale, "seeds": [seen], "figures": seen}
            for name, (free, met) in figures.items()
            for scale, seen in (
                (0.0, one(free, 9.0, None)),
                (1.0, one(met, 10.0, free + control * (met - free))),
            )
        ],
        "intervals": "none",
    }


class TestClaim:
    def test_it_holds_where_every_model_meets_what_was_asked_for(self, tmp_path):
        found = claim(Measured([made_up(tmp_path, seed) for seed in (3, 4, 5)])).judged()
        assert found.verdict == "holds"
        assert "runs/m3, runs/m4, runs/m5 meet held-out conditions" in found.claim
        assert found.seeds == [3, 4, 5]
        decisive = [one for one in found.comparisons if one.role == "decisive"]
        few = " of the first 64 images"
        assert [one.figure for one in decisive] == [
            figure for name in ("edge", "mask", "palette") for figure in (name, name + few, "fid")
        ]
        assert decisive[0].other == pytest.approx([0.3, 0.32, 0.34])
        assert decisive[1].this == pytest.approx([0.6, 0.62, 0.64])
        assert decisive[1].other == pytest.approx([0.3, 0.34, 0.38])
        assert decisive[2].other == pytest.approx([11.7, 1.3 * 9.01, 1.3 * 9.02])
        assert decisive[6].other == pytest.approx([0.1, 0.105, 0.11])
        asides = {one.figure: one for one in found.comparisons if one.role == "aside"}
        assert asides["fid_infinity"].this == [6, 6, 6]
        assert asides["fid_infinity"].other == pytest.approx([6.5, 6.5, 6.5])
        assert found.commands[1] == "python eval/lacon.py runs/m4"
        assert any("real pictures have 5.01" in one for one in found.remarks)

    def test_it_fails_where_another_pictures_map_does_as_well(self, tmp_path):
        """The null result: the constraint helps, but not by what it asks for."""
        found = claim(Measured([made_up(tmp_path, k, control=1) for k in (3, 4, 5)])).judged()
        assert found.verdict == "fails"
        failing = [one for one in found.comparisons if one.verdict == "fails"]
        assert {one.figure.split()[0] for one in failing} == {"edge", "mask", "palette"}
        assert all("another picture's map" in one.name for one in failing)

    def test_what_cannot_double_fails_and_a_remark_says_why(self, tmp_path):
        found = claim(Measured([made_up(tmp_path, seed, mask=0.7) for seed in (3, 4, 5)]))
        assert found.judged().verdict == "fails"
        sweeps = [made_up(tmp_path, seed) for seed in (3, 4, 5)]
        for sweep in sweeps:
            sweep["real"]["mask"]["fidelity"]["mean"] = 0.7
        assert any("cannot double" in one for one in claim(Measured(sweeps)).remarks)
        assert not any("cannot double" in one for one in found.remarks)

    def test_one_model_is_measured_over_seeds_of_its_noise(self, tmp_path):
        found = claim(Measured([made_up(tmp_path, 3)]))
        assert found.seeds == [0]
        assert found.judged().verdict == "inconclusive"
        assert "One model" in found.remarks[0]

    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"weights": "w3"}, "of the same model as m3"),
            ({"schema": "diffgen-lacon-sweep/0"}, "is no sweep of schema"),
            ({"settings": {"form": "sign"}}, "form is sign there, rms here"),
            ({"size": "48x32"}, "size is 48x32 there, 32x32 here"),
            ({"settings": {"pictures": 3, "device": "cpu", "batch_size": 5}}, None),
        ],
    )
    def test_sweeps_that_do_not_belong_together_are_refused(self, tmp_path, changes, said):
        other = made_up(tmp_path, 4)
        for name, value in changes.items():
            other[name] = {**other[name], **value} if isinstance(value, dict) else value
        (tmp_path / "sweep.json").write_text(json.dumps(other))
        config = LaconSweepConfig(source="m3", also=[tmp_path])
        if said is None:
            assert finished(config, "32x32", "w3") == [other]
            return
        with pytest.raises(UserError, match=said):
            finished(config, "32x32", "w3")

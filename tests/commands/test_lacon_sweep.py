"""Figures, cells and claims of ``lacon-sweep``, of made-up numbers and of drawn pictures."""

import json

import pytest
import torch

from diffgen.commands.lacon_sweep.aligners import aligner_digest
from diffgen.commands.lacon_sweep.command import sweep_cells
from diffgen.commands.lacon_sweep.evidence import claim
from diffgen.commands.lacon_sweep.figures import FIGURES, cell_figures, over_images, over_seeds
from diffgen.commands.lacon_sweep.measured import Measured
from diffgen.commands.lacon_sweep.others import with_others
from diffgen.commands.lacon_sweep.table import markdown
from diffgen.commands.lacon_sweep.wanted import BY_READER, BY_RULE, Judge, Wanted
from diffgen.commands.real_images import Part
from diffgen.config.data import DigitsConfig, ShapesConfig
from diffgen.config.lacon_sweep import LaconSweepConfig
from diffgen.data.pixels import from_uint8, to_uint8
from diffgen.data.source import build_images
from diffgen.errors import UserError
from diffgen.lacon.conditions import DEPTH, EDGE, MASK, PALETTE
from diffgen.lacon.edges import canny_edges
from diffgen.lacon.fidelity import edge_f1
from diffgen.metrics.reader import load_reader


def shapes(*numbers: int) -> Wanted:
    return Wanted(Part(build_images(ShapesConfig(size="32x32"), "held_out"), numbers))


class TestWanted:
    def test_drawn_data_brings_its_own_maps_and_other_maps_are_found(self):
        wanted = shapes(7, 3)
        source = wanted.part.source
        coverage = torch.stack([source.maps(k)["mask"] for k in (7, 3)])
        assert torch.equal(wanted.maps(MASK, [0, 1]), (coverage >= 0.5).float())
        depth = wanted.maps(DEPTH, [0, 1])
        assert -1 <= depth.min() < depth.max() <= 1
        assert torch.equal(wanted.maps(EDGE, [1]), canny_edges(source[3][0][None]))

    def test_beyond_the_last_picture_it_starts_again(self):
        wanted = shapes(7, 3, 5)
        for condition in (MASK, PALETTE):
            assert torch.equal(wanted.maps(condition, [3, 4]), wanted.maps(condition, [0, 1]))

    def test_pictures_without_maps_have_masks_but_no_depth(self):
        digits = Wanted(Part(build_images(DigitsConfig(size="16x16")), range(4)))
        assert not digits.has(MASK)
        assert torch.equal(digits.maps(MASK, [2]), MASK.of(digits.pictures([2])))
        with pytest.raises(UserError, match="depth cannot be found in pictures"):
            digits.maps(DEPTH, [2])


@pytest.fixture(scope="module")
def judge() -> Judge:
    return Judge(shapes(*range(80)), load_reader())


class TestJudge:
    def test_the_reader_reads_what_it_knows_and_rules_read_the_rest(self, judge):
        assert [judge.named(c) for c in (MASK, DEPTH)] == [BY_READER] * 2
        assert [judge.named(c) for c in (EDGE, PALETTE)] == [BY_RULE] * 2
        digits = Judge(Wanted(Part(build_images(DigitsConfig()), range(4))), judge.reader)
        assert digits.named(MASK) == BY_RULE

    def test_the_readers_map_is_where_its_logits_are_positive(self, judge):
        pictures = to_uint8(judge.wanted.pictures(range(5)))
        logits = judge.reader(from_uint8(pictures)).mask
        assert torch.equal(judge.found(MASK, pictures), (logits > 0).float())

    def test_real_pictures_meet_their_own_maps_all_but_for_rounding_and_reading(self, judge):
        wanted = judge.wanted.pictures(range(80))
        rounded = from_uint8(to_uint8(wanted))
        edges = edge_f1(canny_edges(rounded), canny_edges(wanted)).tolist()
        assert judge.ceiling(EDGE, 80) == edges  # more than one batch
        assert 0.9 < sum(edges) / 80 < 1
        assert sum(judge.ceiling(MASK, 80)) / 80 > 0.9
        assert sum(judge.ceiling(DEPTH, 80)) / 80 < 0.1
        assert max(judge.ceiling(PALETTE, 80)) < 1 / 255

    def test_image_k_is_held_against_map_k(self, judge):
        pictures = to_uint8(judge.wanted.pictures(range(10)))
        own, shifted = (judge.fidelity(EDGE, x) for x in (pictures, pictures.roll(1, 0)))
        assert min(own) > 0.6 > max(shifted)


def content(fidelity: float, control: float | None = None) -> dict:
    measured = {
        "fidelity": {"edge": over_images([fidelity - 0.1, fidelity + 0.1])},
        "control": {} if control is None else {"edge": over_images([control, control])},
        "variation": over_images([0.2, 0.3]),
        "seconds": 3.0,
        "times": 2.0,
    }
    return {"measured": measured, "scores": {"fid": 9.0}, "intervals": {"fid": (8, 10)}}


class TestFigures:
    def test_values_of_images_give_their_mean_and_students_interval(self):
        found = over_images([0.4, 0.6])
        assert found["mean"] == pytest.approx(0.5)
        low, high = found["interval"]
        assert high - low == pytest.approx(2 * 12.7062047 * 0.1)
        assert (found["count"], found["values"]) == (2, [0.4, 0.6])
        assert over_images([0.5] * 2000)["values"] is None

    def test_figures_of_a_cell_are_those_it_holds(self):
        found = cell_figures(content(0.5, control=0.1), "edge")
        assert list(found) == list(FIGURES)
        assert found["times"] == {"mean": 2.0, "interval": None}
        assert found["control"] == {"mean": 0.1, "interval": None}
        assert found["fid"] == {"mean": 9.0, "interval": (8, 10)}
        assert found["recall"] is None
        assert cell_figures(content(0.2), "edge")["control"] is None

    def test_intervals_are_over_images_with_one_seed_and_else_over_seeds(self):
        one, two = (cell_figures(content(fidelity), "edge") for fidelity in (0.4, 0.6))
        assert over_seeds([one]) == one
        found = over_seeds([one, two])["fidelity"]
        assert found["mean"] == pytest.approx(0.5)
        assert found["interval"][1] == pytest.approx(0.5 + 12.7062047 * 0.1)

    def test_a_line_of_the_table_has_a_cell_a_figure(self):
        figures = cell_figures(content(0.5, control=0.1), "edge")
        sweep = {
            "conditions": {"edge": {"figure": "edge_f1", "higher": True, "read_by": BY_RULE}},
            "counts": {"images": 2},
            "again": 2,
            "intervals": "none",
        }
        real = {**dict.fromkeys(FIGURES), "fidelity": {"mean": 0.97, "interval": None}}
        head, _, line, last, *_ = markdown({("edge", 20, 1.0): figures}, {"edge": real}, sweep)
        assert [one.count("|") for one in (head, line, last)] == [len(FIGURES) + 4] * 3
        assert line.startswith("| edge | 20 | 1 | 0.5 ± 1.3 | 0.1 | 9 ± 1 | - |")
        assert last.startswith("| edge | | real | 0.97 | - |")


class TestCells:
    def test_unguided_cells_are_shared_and_a_new_aligner_redraws_its_own_alone(self, tmp_path):
        config = LaconSweepConfig(
            source="x", conditions=["edge", "mask"], scales=[0, 2, 1], steps=[9], out=tmp_path
        )
        before = sweep_cells(config, {"edge": "a", "mask": "b"})
        assert [place[:3] for place in before] == [
            (name, 9, scale) for name in ("edge", "mask") for scale in (0.0, 1.0, 2.0)
        ]
        assert before["edge", 9, 0.0, 0] == before["mask", 9, 0.0, 0]
        assert len({cell.file for cell in before.values()}) == 5
        after = sweep_cells(config, {"edge": "a", "mask": "new"})
        changed = [place[0] for place in before if before[place].config != after[place].config]
        assert changed == ["mask", "mask"]

    def test_other_weights_have_another_digest(self, tmp_path):
        (tmp_path / "config.json").write_text("{}")
        (tmp_path / "weights").write_bytes(b"1")
        digest = aligner_digest(tmp_path)
        (tmp_path / "weights").write_bytes(b"2")
        assert aligner_digest(tmp_path) != digest


def made_up(tmp_path, seed: int, mask: float = 0.9, **settings) -> dict:
    """A sweep of a model that meets its conditions, up to ``mask`` at scale 1."""
    figures = {"edge": (0.15, 0.6), "mask": (0.4, mask), "palette": (0.2, 0.05)}
    real = {"edge": 0.97, "mask": 0.96, "palette": 0.0}
    config = LaconSweepConfig(source=f"m{seed}", out=tmp_path / f"s{seed}", **settings)
    off = 0.01 * (seed % 3)

    def one(value: float, fid: float, control: float | None) -> dict:
        names = {"fidelity": value + off, "control": control, "fid": fid + off}
        return {k: None if v is None else {"mean": v, "interval": None} for k, v in names.items()}

    return {
        "schema": "diffgen-lacon-sweep/1",
        "settings": config.model_dump(mode="json"),
        "size": "32x32",
        "counts": {"images": 256},
        "labels": "as in the pictures",
        "weights": f"w{seed}",
        "training_seed": seed,
        "processes": 1,
        "conditions": {
            name: {"figure": name, "higher": name != "palette", "read_by": BY_RULE, "until": 0.4}
            for name in figures
        },
        "again": 64,
        "steps": [20],
        "scales": [0.0, 1.0],
        "seeds": [0],
        "real": {name: {"fidelity": {"mean": value}} for name, value in real.items()},
        "cells": [
            {"condition": name, "steps": 20, "scale": scale, "seeds": [seen], "figures": seen}
            for name, (free, met) in figures.items()
            for scale, seen in ((0.0, one(free, 9.0, None)), (1.0, one(met, 10.0, free)))
        ],
        "intervals": "none",
    }


class TestClaim:
    def test_it_holds_where_every_model_meets_what_was_asked_for(self, tmp_path):
        found = claim(Measured([made_up(tmp_path, seed) for seed in (3, 4, 5)])).judged()
        assert found.verdict == "holds"
        assert found.seeds == [3, 4, 5]
        decisive = [one for one in found.comparisons if one.role == "decisive"]
        assert [one.figure for one in decisive] == ["edge", "fid", "mask", "fid", "palette", "fid"]
        assert decisive[0].other == pytest.approx([0.3, 0.32, 0.34])
        assert decisive[1].other == pytest.approx([11.7, 1.3 * 9.01, 1.3 * 9.02])
        assert decisive[4].other == pytest.approx([0.1, 0.105, 0.11])
        assert "python train/lacon.py m4 --condition mask" in found.commands
        assert any(command.startswith("python eval/lacon.py m5 ") for command in found.commands)

    def test_what_cannot_double_fails_and_a_remark_says_why(self, tmp_path):
        found = claim(Measured([made_up(tmp_path, seed, mask=0.7) for seed in (3, 4, 5)]))
        assert found.judged().verdict == "fails"
        sweeps = [made_up(tmp_path, seed) for seed in (3, 4, 5)]
        for sweep in sweeps:
            sweep["real"]["mask"]["fidelity"]["mean"] = 0.7
        assert any("cannot double" in one for one in claim(Measured(sweeps)).remarks)
        assert not any("cannot double" in one for one in found.remarks)

    def test_the_share_of_the_way_is_held_against_that_of_another_pictures_map(self, tmp_path):
        found = claim(Measured([made_up(tmp_path, seed) for seed in (3, 4)])).judged()
        (share,) = [
            one for one in found.comparisons if one.figure.startswith("share of the way of e")
        ]
        assert share.role == "aside"
        assert share.this[0] == pytest.approx((0.6 - 0.15) / (0.97 - 0.15), abs=1e-6)
        assert share.other[0] == pytest.approx(0, abs=1e-6)

    def test_one_model_is_measured_over_seeds_of_its_noise(self, tmp_path):
        found = claim(Measured([made_up(tmp_path, 3)]))
        assert found.seeds == [0]
        assert found.judged().verdict == "inconclusive"
        assert "One model" in found.remarks[0]

    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"weights": "w3"}, "of the same model as"),
            ({"schema": "diffgen-lacon-sweep/0"}, "is no sweep of schema"),
            ({"settings": {"form": "sign"}}, "form is sign there, rms here"),
            ({"size": "48x32"}, "size is 48x32 there, 32x32 here"),
        ],
    )
    def test_sweeps_that_do_not_belong_together_are_refused(self, tmp_path, changes, said):
        other = made_up(tmp_path, 4)
        for name, value in changes.items():
            other[name] = {**other[name], **value} if isinstance(value, dict) else value
        (tmp_path / "sweep.json").write_text(json.dumps(other))
        with pytest.raises(UserError, match=said):
            with_others(made_up(tmp_path, 3), [tmp_path])

    def test_models_differ_but_settings_do_not(self, tmp_path):
        other = made_up(tmp_path, 4, pictures=3, device="cpu")
        (tmp_path / "sweep.json").write_text(json.dumps(other))
        assert len(with_others(made_up(tmp_path, 3), [tmp_path])) == 2

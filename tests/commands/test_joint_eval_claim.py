"""The claim and the table of ``joint-eval``, of made-up numbers."""

import json
import re

import pytest

from diffgen.commands.joint_eval.evidence import claim
from diffgen.commands.joint_eval.report import SCHEMA
from diffgen.commands.joint_eval.table import FIGURES, markdown
from diffgen.commands.lacon_sweep.finished import finished
from diffgen.commands.sweeps import figure
from diffgen.config.joint_eval import JointEvalConfig
from diffgen.errors import UserError

VALUES = {
    ("depth", "base"): {"fidelity": 0.3, "fid": 10.0},
    ("depth", "given"): {"fidelity": 0.05, "fid": 11.0, "first": 0.05, "control": 0.3},
    ("depth", "lacon"): {"fidelity": 0.09, "fid": 12.0},
    ("depth", "channels"): {"fidelity": 0.04, "fid": 9.0},
    ("depth", "joint"): {"fidelity": 0.06, "fid": 11.0},
    ("depth", "shuffled"): {"fidelity": 0.3},
    ("depth", "maps"): {"fidelity": 0.05, "abs_rel": 0.1},
    ("depth", "untold"): {"fidelity": 0.06, "abs_rel": 0.12},
    ("depth", "constant"): {"fidelity": 0.3, "abs_rel": 0.5},
    ("depth", "constants"): {"fidelity": 0.3, "abs_rel": 0.4},
    ("depth", "fixed"): {"fidelity": 0.2, "abs_rel": 0.3},
    ("depth", "fixed_class"): {"fidelity": 0.15, "abs_rel": 0.2},
    ("depth", "pair"): {"fidelity": 0.06, "fid": 11.5},
    ("depth", "other"): {"fidelity": 0.1},
    ("depth", "real"): {"fidelity": 0.03, "fid": 5.0},
    ("edge", "base"): {"fidelity": 0.1, "fid": 10.0},
    ("edge", "given"): {"fidelity": 0.8, "fid": 11.0},
    ("edge", "lacon"): {"fidelity": 0.6, "fid": 12.0},
    ("edge", "joint"): {"fidelity": 0.7, "fid": 11.0},
    ("edge", "shuffled"): {"fidelity": 0.1},
    ("edge", "pair"): {"fidelity": 0.75, "fid": 11.5},
    ("edge", "other"): {"fidelity": 0.3},
    ("edge", "real"): {"fidelity": 0.97, "fid": 5.0},
}
"""Of a model for which everything that is claimed holds."""
UNTOLD = "map from picture, no class told, against half of the best"


def made_up(seed: int, changes: dict | None = None, **more) -> dict:
    """What joint.json holds; models differ by their seeds."""
    off = 1 + 0.01 * (seed % 3)

    def seen(values: dict) -> dict:
        known = {name: value for name, value in values.items() if value is not None}
        return {name: figure(off * known[name]) if name in known else None for name in FIGURES}

    rows = {place: seen({**one, **(changes or {}).get(place, {})}) for place, one in VALUES.items()}
    return {
        "schema": SCHEMA,
        "settings": JointEvalConfig(source=f"m{seed}").model_dump(mode="json"),
        "size": "32x32",
        "counts": {"images": 256},
        "labels": "as in the pictures",
        "weights": f"w{seed}",
        "processes": 1,
        "model": f"runs/m{seed}",
        "training_seed": seed,
        "held_out": True,
        "budgets": [
            {
                **{"condition": "depth", "kind": "adapter", "images": 49152, "batch_size": 16},
                **{"optimizer": "muon", "parameters": 180000, "seconds": 800.0 + seed},
            },
            {
                **{"condition": "depth", "kind": "aligner", "images": None, "batch_size": None},
                **{"optimizer": None, "parameters": 9000, "seconds": None},
            },
        ],
        "commands": [f"python eval/joint.py runs/m{seed}"],
        "conditions": {
            "depth": {"figure": "depth_error", "higher": False, "read_by": "it"},
            "edge": {"figure": "edge_f1", "higher": True, "read_by": "it"},
        },
        "pair": ["depth", "edge"],
        "again": 64,
        "steps": 20,
        "seeds": [0],
        "rows": [
            {"condition": name, "row": row, "seeds": [one], "figures": one}
            for (name, row), one in rows.items()
        ],
        "intervals": "none",
        **more,
    }


def three(changes: dict | None = None):
    return claim([made_up(seed, changes) for seed in (3, 4, 5)]).judged()


class TestClaim:
    def test_it_holds_where_every_model_does_as_it_says(self):
        found = three()
        assert found.verdict == "holds"
        assert "runs/m3, runs/m4, runs/m5" in found.claim
        assert found.seeds == [3, 4, 5]
        assert [one.name for one in found.comparisons if one.role == "decisive"] == [
            "depth: image from map against the late constraint",
            "depth: image from map against 1.2 times the base",
            "depth: drawn together against half of the next one's of its class",
            "depth: image from both against edge alone",
            f"depth: {UNTOLD} fixed map",
            f"depth: {UNTOLD} constant depth",
            "edge: image from both against depth alone",
        ]
        sides = {one.name: (one.this[0], one.other[0]) for one in found.comparisons}
        for title, pair in (
            (f"depth: {UNTOLD} fixed map", (0.12, 0.15)),
            (f"depth: {UNTOLD} constant depth", (0.12, 0.25)),
            (f"depth: {UNTOLD} constant depth of each picture", (0.12, 0.2)),
            (
                "depth: map from picture, class told, against the best fixed map of its class",
                (0.1, 0.2),
            ),
            ("depth: drawn together against half of the next one's of its class", (0.06, 0.15)),
            ("edge: drawn together against twice the next one's of its class", (0.7, 0.2)),
            ("edge: image from both against edge alone", (0.75, 0.8)),
            ("depth: image from both against 1.2 times the base", (11.5, 12)),
            ("depth: image from map against half of another's map", (0.05, 0.15)),
        ):
            assert sides[title] == pytest.approx(pair)
        asides = {one.name: one for one in found.comparisons if one.role == "aside"}
        for title in (
            "depth: image from map against the map as channels",
            "edge: image from both against edge alone",
        ):
            assert asides[title].verdict == "fails"
        assert "edge: image from both against 1.2 times the base" not in asides
        assert asides["edge: image from map against the late constraint"].verdict == "holds"

    @pytest.mark.parametrize(
        ("place", "changes", "failing"),
        [
            (("depth", "fixed"), {"abs_rel": 0.2}, f"depth: {UNTOLD} fixed map"),
            (("depth", "constant"), {"abs_rel": 0.2}, f"depth: {UNTOLD} constant depth"),
            (("depth", "given"), {"fidelity": 0.1}, "depth: image from map against the late"),
            (("depth", "given"), {"fid": 12.5}, "depth: image from map against 1.2 times"),
            (("depth", "shuffled"), {"fidelity": 0.1}, "depth: drawn together against half of"),
            (("depth", "pair"), {"fidelity": 0.2}, "depth: image from both against edge alone"),
            (("edge", "other"), {"fidelity": 0.8}, "edge: image from both against depth alone"),
        ],
    )
    def test_each_part_of_it_can_fail_alone(self, place, changes, failing):
        found = three({place: changes})
        assert found.verdict == "fails"
        wrong = [one for one in found.comparisons if one.verdict == "fails"]
        assert [one.name.startswith(failing) for one in wrong if one.role == "decisive"] == [True]

    def test_what_other_conditions_and_baselines_do_bears_on_nothing(self):
        found = three(
            {
                ("depth", "channels"): {"fidelity": 0.0},
                ("depth", "maps"): {"abs_rel": 0.4},
                ("edge", "joint"): {"fid": 99.0},
                ("edge", "given"): {"fidelity": 0.2, "fid": 99.0},
                ("edge", "shuffled"): {"fidelity": 0.6},
            }
        )
        assert found.verdict == "holds"

    @pytest.mark.parametrize(
        ("place", "figure", "said"),
        [
            (("depth", "given"), "fid", "fid of depth: image from map against 1.2 times the base"),
            (("depth", "untold"), "abs_rel", f"abs_rel of depth: {UNTOLD} fixed map"),
            (("edge", "other"), "fidelity", "edge_f1 of edge: image from both against depth alone"),
        ],
    )
    def test_there_is_none_without_a_figure_that_it_rests_on(self, place, figure, said):
        sweep = made_up(3)
        for one in sweep["rows"]:
            if (one["condition"], one["row"]) == place:
                one["seeds"][0][figure] = None
        with pytest.raises(UserError, match=f"^evidence: {re.escape(said)} is not available$"):
            claim([sweep])

    def test_figures_that_nothing_rests_on_may_be_missing(self):
        found = three({("edge", "given"): {"fid": None}, ("depth", "real"): {"fid": None}})
        assert found.verdict == "holds"

    def test_a_reader_learns_what_was_trained_and_what_a_factor_on_fid_allows(self):
        (trained,) = [one for one in three().remarks if one.startswith("What was trained")]
        assert trained == (
            "What was trained beside runs/m3: depth, adapter: 180,000 parameters, 49,152 images in "
            "batches of 16, by muon, 803 s; depth, aligner: 9,000 parameters; for the other models "
            "the same, but for times."
        )
        unlike = [made_up(3), made_up(4, budgets=[])]
        assert any(one.endswith("for the other models see data.") for one in claim(unlike).remarks)
        (alone,) = [one for one in claim([made_up(3)]).remarks if "beside" in one]
        assert alone.endswith("9,000 parameters.")
        (fid,) = [one for one in claim([made_up(3)]).remarks if one.startswith("FID")]
        assert "Of the excess over real pictures these have 1.20 times the base's" in fid
        assert "1.2 times its FID would be 1.40 times" in fid

    def test_one_model_is_measured_over_seeds_of_its_noise(self):
        found = claim([made_up(3)])
        assert found.seeds == [0]
        assert found.judged().verdict == "inconclusive"
        assert "One model" in found.remarks[0]

    @pytest.mark.parametrize(
        ("more", "said"),
        [
            ({"weights": "w3"}, "of the same model as m3"),
            ({"schema": "diffgen-lacon-sweep/1"}, "is no sweep of schema"),
            ({"size": "48x32"}, "size is 48x32 there, 32x32 here"),
            ({}, None),
        ],
    )
    def test_evaluations_that_do_not_belong_together_are_refused(self, tmp_path, more, said):
        other = made_up(4, **more)
        (tmp_path / "joint.json").write_text(json.dumps(other))
        asked = (JointEvalConfig(source="m3", also=[tmp_path]), "32x32", "w3", "joint.json", SCHEMA)
        if said is None:
            assert finished(*asked) == [other]
            return
        with pytest.raises(UserError, match=said):
            finished(*asked)


def test_a_line_of_the_table_has_a_cell_a_figure():
    lines = list(markdown(made_up(3)))
    assert {line.count("|") for line in lines[: 2 + len(VALUES)]} == {len(FIGURES) + 3}
    assert lines[3].startswith("| depth | image from map | 0.05 | - | - | 0.05 | 0.3 | 11 | - |")
    assert "| edge | image from depth alone | 0.3 |" in "\n".join(lines)

"""The claim and the table of ``joint-eval``, of made-up numbers."""

import json

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
    ("depth", "untold"): {"fidelity": 0.2, "abs_rel": 0.3},
    ("depth", "constant"): {"fidelity": 0.3, "abs_rel": 0.5},
    ("depth", "constants"): {"fidelity": 0.3, "abs_rel": 0.4},
    ("depth", "both"): {"fidelity": 0.06},
    ("depth", "other"): {"fidelity": 0.1},
    ("depth", "real"): {"fidelity": 0.03, "fid": 5.0},
    ("edge", "base"): {"fidelity": 0.1, "fid": 10.0},
    ("edge", "given"): {"fidelity": 0.8, "fid": 11.0},
    ("edge", "lacon"): {"fidelity": 0.6, "fid": 12.0},
    ("edge", "joint"): {"fidelity": 0.7, "fid": 11.0},
    ("edge", "shuffled"): {"fidelity": 0.1},
    ("edge", "both"): {"fidelity": 0.75},
    ("edge", "other"): {"fidelity": 0.3},
    ("edge", "real"): {"fidelity": 0.97, "fid": 5.0},
}
"""Of a model for which everything that is claimed holds."""


def made_up(seed: int, changes: dict | None = None, **more) -> dict:
    """What joint.json holds; models differ by their seeds."""
    off = 1 + 0.01 * (seed % 3)

    def seen(values: dict) -> dict:
        return {name: figure(off * values[name]) if name in values else None for name in FIGURES}

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
            "depth: both drawn against half of others",
            "depth: map from picture against half of a constant",
            "depth: image from both against edge alone",
            "edge: image from map against the late constraint",
            "edge: image from map against 1.2 times the base",
            "edge: image from both against depth alone",
        ]
        sides = {one.name: (one.this[0], one.other[0]) for one in found.comparisons}
        for title, pair in (
            ("depth: map from picture against half of a constant", (0.1, 0.25)),
            ("depth: both drawn against half of others", (0.06, 0.15)),
            ("edge: both drawn against twice others", (0.7, 0.2)),
            ("depth: image from map against half of another's map", (0.05, 0.15)),
        ):
            assert sides[title] == pytest.approx(pair)
        asides = {one.name: one for one in found.comparisons if one.role == "aside"}
        for title in (
            "image from map against the map as channels",
            "map from picture against half of a constant, untold",
        ):
            assert asides[f"depth: {title}"].verdict == "fails"

    @pytest.mark.parametrize(
        ("place", "changes", "failing"),
        [
            (("depth", "maps"), {"abs_rel": 0.3}, "depth: map from picture against half of a"),
            (("depth", "given"), {"fidelity": 0.1}, "depth: image from map against the late"),
            (("edge", "given"), {"fidelity": 0.5}, "edge: image from map against the late"),
            (("edge", "given"), {"fid": 12.5}, "edge: image from map against 1.2 times"),
            (("depth", "shuffled"), {"fidelity": 0.1}, "depth: both drawn against half of others"),
            (("depth", "both"), {"fidelity": 0.2}, "depth: image from both against edge alone"),
            (("edge", "other"), {"fidelity": 0.8}, "edge: image from both against depth alone"),
        ],
    )
    def test_each_part_of_it_can_fail_alone(self, place, changes, failing):
        found = three({place: changes})
        assert found.verdict == "fails"
        wrong = [one for one in found.comparisons if one.verdict == "fails"]
        assert [one.name.startswith(failing) for one in wrong if one.role == "decisive"] == [True]

    def test_what_other_conditions_and_baselines_do_bears_on_nothing(self):
        found = three({("depth", "channels"): {"fidelity": 0.0}, ("edge", "joint"): {"fid": 99.0}})
        assert found.verdict == "holds"

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

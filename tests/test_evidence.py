"""Claims: the verdicts their values give, and that a document which states others is caught."""

import json
import re
import subprocess
import sys
from pathlib import Path
from statistics import mean

import pytest
from scipy import stats

from diffgen.cli import launch
from diffgen.errors import UserError
from diffgen.evidence import (
    BoundedShare,
    Evidence,
    Share,
    Shares,
    Values,
    check_evidence,
    read_evidence,
    write_evidence,
)
from diffgen.evidence.rules import (
    extreme_differences,
    independent_difference,
    paired_difference,
    verdict_of,
    verdict_of_claim,
)

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "docs/evidence").glob("*.json"))


def values(this, other, direction="lower", kind="paired", **fields):
    return Values(
        name="a against b",
        figure="fid",
        kind=kind,
        direction=direction,
        this=this,
        other=other,
        **fields,
    )


def shares(this, other, direction="higher", **fields):
    a, b = (Share(successes=successes, count=count) for successes, count in (this, other))
    return Shares(
        name="a against b", figure="accuracy", direction=direction, this=a, other=b, **fields
    )


def claim(*comparisons, seeds=(0, 1, 2), **fields):
    return Evidence(
        claim="a has a lower FID than b.",
        null_result="Intervals that hold 0.",
        settings={"images": 512},
        commands=["python eval/evaluate.py a"],
        machine={"device": "a CPU"},
        seeds=list(seeds),
        comparisons=list(comparisons),
        **fields,
    )


@pytest.fixture
def written(tmp_path):
    """A claim that holds, on the disk, and a function that alters its JSON."""
    path = tmp_path / "claim.json"
    both = [values([1.0, 2.0, 3.0], [5.0, 6.5, 7.0]), shares((90, 100), (50, 100))]
    write_evidence(path, claim(*both, data={"floor": None}))

    def alter(change):
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))
        return check_evidence(path)

    return path, alter


def test_paired_interval_is_students_t_of_the_differences():
    low, high = paired_difference([3.0, 5.0, 7.0], [2.0, 3.0, 4.0])  # 1, 2, 3: t(2) = 4.302653
    assert (low, high) == pytest.approx((2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5))


def test_independent_interval_is_welchs():
    this, other = [3.0, 5.5, 4.0, 4.4], [9.0, 7.0, 12.5]
    test = stats.ttest_ind(this, other, equal_var=False)
    assert independent_difference(this, other) == pytest.approx(tuple(test.confidence_interval()))


def test_what_varies_between_seeds_may_cancel_in_pairs():
    this, other = [1.0, 11.0, 21.0], [2.0, 12.1, 21.9]
    assert values(this, other).judged().verdict == "holds"
    assert values(this, other, kind="independent").judged().verdict == "inconclusive"


@pytest.mark.parametrize(
    ("difference", "higher", "lower"),
    [
        ((0.1, 2.0), "holds", "fails"),
        ((-2.0, -0.1), "fails", "holds"),
        ((-0.1, 2.0), "inconclusive", "inconclusive"),
        ((0.0, 2.0), "inconclusive", "inconclusive"),
        ((-2.0, 0.0), "inconclusive", "inconclusive"),
        (None, "inconclusive", "inconclusive"),
    ],
)
def test_an_interval_decides_only_when_it_leaves_zero_out(difference, higher, lower):
    assert verdict_of(difference, "higher") == higher
    assert verdict_of(difference, "lower") == lower


@pytest.mark.parametrize("kind", ["paired", "independent"])
def test_single_values_and_values_that_do_not_vary_are_inconclusive(kind):
    for this, other in ([[1.0], [900.0]], [[0.3, 0.3], [0.1, 0.1]]):
        one = values(this, other, kind=kind).judged()
        assert (one.interval, one.verdict) == (None, "inconclusive")


def test_differences_equal_up_to_rounding_do_not_vary():
    assert paired_difference([0.3, 0.8, 1.7], [0.1, 0.6, 1.5]) is None
    far = [1e6 + 0.3, 2e6 + 0.7, 3e6 + 0.1]  # steps of 1e-10 there, of differences of 0.1
    assert paired_difference([one + 0.1 for one in far], far) is None
    around = [0.1 + 0.2, 0.7 + 0.1, 0.3]  # differences of 5e-17 and less, about 0
    assert paired_difference(around, [0.3, 0.8, 0.1 + 0.2]) is None
    assert independent_difference([0.1 + 0.2, 0.3], [5.0, 5.0]) is None


def test_small_differences_of_large_values_vary_where_they_are_more_than_rounding():
    low, high = paired_difference([1e6 + 0.1, 2e6 + 0.2, 3e6 + 0.3], [1e6, 2e6, 3e6])
    assert low < 0.2 < high


def test_more_independent_values_than_seeds_are_refused_and_fewer_are_not():
    three = values([1.0, 1.1, 1.2], [5.0, 5.1], kind="independent")
    assert claim(three).judged().verdict == "holds"
    with pytest.raises(ValueError, match="3 values for 2 seeds"):
        claim(three, seeds=(0, 1))
    images = three.model_copy(update={"unit": "image"})
    assert claim(images, seeds=(0,)).judged().verdict == "holds"


def test_one_success_more_sets_two_shares_apart():
    """Wilson of 50 in 100 ends at 0.5962, of 69 begins at 0.5937, of 70 at 0.6042."""
    assert shares((69, 100), (50, 100)).judged().verdict == "inconclusive"
    assert shares((70, 100), (50, 100)).judged().verdict == "holds"
    assert shares((70, 100), (50, 100), "lower").judged().verdict == "fails"


def test_intervals_that_touch_are_not_apart():
    assert verdict_of(extreme_differences((0.5, 0.7), (0.3, 0.5)), "higher") == "inconclusive"


def test_a_share_must_leave_its_bound_out():
    def verdict(successes):
        share = Share(successes=successes, count=256)
        one = BoundedShare(
            name="a", figure="accuracy", direction="higher", this=share, bound=0.8
        )  # 217 of 256: from 0.7986; 218: from 0.8028; 192: to 0.7990
        return one.judged().verdict

    assert [verdict(k) for k in (218, 217, 192)] == ["holds", "inconclusive", "fails"]


def test_nearer_compares_distances_from_either_side_of_the_target():
    nearer = values([0.39, 0.42, 0.38], [0.5, 0.31, 0.52], "nearer", target=0.4)
    assert nearer.judged().verdict == "holds"
    far = values([0.5, 0.31, 0.52], [0.39, 0.42, 0.38], "nearer", target=0.4)
    assert far.judged().verdict == "fails"


@pytest.mark.parametrize(
    ("decisive", "conditions", "verdict"),
    [
        (["holds", "holds"], [], "holds"),
        (["holds", "inconclusive"], [], "inconclusive"),
        (["holds", "inconclusive", "fails"], [], "fails"),
        (["holds"], ["holds"], "holds"),
        (["holds"], ["inconclusive"], "inconclusive"),
        (["fails"], ["holds", "fails"], "inconclusive"),
    ],
)
def test_a_claim_holds_with_all_and_fails_with_one(decisive, conditions, verdict):
    assert verdict_of_claim(decisive, conditions) == verdict


def test_a_figure_shown_aside_does_not_bear_on_the_claim():
    good, bad = values([1.0, 2.0, 3.0], [5.0, 6.5, 7.0]), shares((1, 9), (9, 9), role="aside")
    judged = claim(good, bad).judged()
    assert [one.verdict for one in judged.comparisons] == ["holds", "fails"]
    assert judged.verdict == "holds"


def test_what_is_written_reads_back_with_verdicts_of_its_values(tmp_path):
    path = tmp_path / "new/claim.json"
    wrong = values([1.0, 2.0], [5.0, 6.5], verdict="fails", interval=(0.0, 0.1))
    written = write_evidence(path, claim(wrong, seeds=(4, 7), verdict="fails"))
    assert read_evidence(path) == written
    assert written.verdict == written.comparisons[0].verdict == "holds"
    assert check_evidence(path) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c.update(verdict="fails"), "claim.json: verdict: 'fails' does not follow"),
        (lambda c: c.update(verdict=None), "verdict: None does not follow"),
        (lambda c: c["comparisons"][1].update(verdict="fails"), "comparisons[1].verdict: 'fails'"),
        (lambda c: c["comparisons"][0]["this"].reverse(), "comparisons[0].interval: "),
        (lambda c: c["comparisons"][0]["interval"].reverse(), "comparisons[0].interval: "),
        (lambda c: c["comparisons"][0].update(interval=None), "comparisons[0].interval: None"),
        (lambda c: c["comparisons"][1]["this"].update(successes=91), "[1].this.interval: "),
        (lambda c: c["comparisons"][0].update(direction="higher"), "'fails' (a against b, fid)"),
        (lambda c: c["comparisons"][0].update(role="aside", speed=1), "comparisons[0].speed: unkn"),
        (lambda c: c.update(seed=0), "seed: unknown field"),
        (lambda c: c.pop("null_result"), "null_result: is needed"),
        (lambda c: c.pop("schema"), "schema: is needed"),
        (lambda c: c.update(schema="x/1"), "schema: input should be 'diffgen-evidence/1'"),
        (lambda c: c["comparisons"][0].update(kind="pairs"), "comparisons[0]: input tag 'pairs'"),
        (lambda c: c["comparisons"][0]["this"].pop(), "comparisons[0]: 2 values of this against 3"),
        (lambda c: c["comparisons"][0].update(target=1.0), "direction nearer and a target need"),
        (lambda c: c["comparisons"][1]["other"].update(successes=101), "comparisons[1].other: 101"),
        (lambda c: c["comparisons"][0]["this"].append("4"), "comparisons[0].this[3]: input should"),
        (lambda c: c.update(seeds=[0, 1]), "comparisons[0]: 3 values for 2 seeds"),
        (lambda c: c.update(seeds=[0, 1, 1]), "seeds: [0, 1, 1] names one twice"),
        (lambda c: c["comparisons"].pop(0) and c["comparisons"][0].update(role="aside"), "none is"),
        (lambda c: c["comparisons"].append(c["comparisons"][1]), "are those of an earlier one"),
        (lambda c: c["data"].update(floor=[float("nan")]), "data: JSON knows no"),
    ],
)  # fmt: skip
def test_a_document_that_was_tampered_with_names_the_field(written, change, said):
    _, alter = written
    problems = alter(change)
    assert any(said in line for line in problems), problems


def test_intervals_may_be_rounded_in_the_seventh_digit_but_not_before(written):
    _, alter = written

    def scale(factor):
        return lambda c: c["comparisons"][0].update(
            interval=[factor * end for end in c["comparisons"][0]["interval"]]
        )

    assert alter(scale(1 + 5e-7)) == []
    assert "does not follow" in alter(scale(1 + 5e-6))[0]


def test_a_file_that_is_no_json_or_is_missing_is_a_problem(tmp_path):
    (tmp_path / "torn.json").write_text('{"schema": ')
    assert "torn.json: invalid JSON" in check_evidence(tmp_path / "torn.json")[0]
    assert "cannot be read" in check_evidence(tmp_path / "gone.json")[0]
    with pytest.raises(UserError, match=r"gone\.json: cannot be read"):
        read_evidence(tmp_path / "gone.json")


def test_the_command_prints_a_table_and_refuses_what_does_not_follow(written, tmp_path, capsys):
    path, alter = written
    assert launch("evidence", [str(path)], "eval/evidence.py") == 0
    row = "| claim: a has a lower FID than b. | holds | holds | 2 of 2 |"
    assert row in capsys.readouterr().out
    alter(lambda c: c["comparisons"][1]["this"].update(successes=55))
    (tmp_path / "torn.json").write_text("{")
    assert launch("evidence", [str(path), str(tmp_path / "torn.json")], "eval/evidence.py") == 2
    out, err = capsys.readouterr()
    assert "| holds | inconclusive | 1 of 2 |" in out
    assert "torn.json | cannot be read |" in out
    for place in ("this.interval", "verdict"):
        assert f"{path}: comparisons[1].{place}: " in err
    assert f"{path}: verdict: 'holds' does not follow" in err
    assert f"{tmp_path}/torn.json: invalid JSON" in err
    assert "Traceback" not in err


@pytest.mark.parametrize(("argv", "said"), [([], "give at least one"), (["no"], "files: no is")])
def test_the_command_wants_files(argv, said, capsys):
    assert launch("evidence", argv, "eval/evidence.py") == 2
    assert said in capsys.readouterr().err


def test_the_script_checks_every_claim_of_the_documentation_without_torch(tmp_path):
    program = (
        "import runpy, sys\n"
        "sys.argv.pop(0)\n"
        "try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "finally: assert 'torch' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(ROOT / "eval/evidence.py"), *FILES],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 2 + len(FILES)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_claim_of_the_documentation_follows_from_its_values(path):
    assert check_evidence(path) == []


def test_apgs_values_are_means_of_the_cells_and_its_verdicts_those_of_guidance_md():
    evidence = read_evidence(ROOT / "docs/evidence/apg.json")
    cells = {
        (model["seed"], cell["rule"], cell["scale"]): cell["seeds"]
        for model in evidence.data["models"]
        for cell in model["cells"]
    }
    found = {}
    for one in evidence.comparisons:
        scale = float(one.name.split()[-1])
        found[one.figure, scale] = one.verdict
        for rule, side in (("apg", one.this), ("cfg", one.other)):
            means = [mean(s[one.figure] for s in cells[m, rule, scale]) for m in evidence.seeds]
            assert side == pytest.approx(means, abs=1e-6)
    scales = (4, 8, 16)
    assert [found["fid", s] for s in scales] == ["inconclusive", "holds", "holds"]
    assert [found["recall", s] for s in scales] == ["inconclusive", "holds", "holds"]
    assert [found["precision", s] for s in scales] == ["holds"] * 3
    assert [found["saturation", s] for s in scales] == ["inconclusive", "inconclusive", "holds"]
    assert evidence.verdict == "inconclusive"


@pytest.mark.parametrize("stem", ["rpe2d", "fitv2"])
def test_shares_and_fids_of_the_encodings_are_those_of_their_tables(stem):
    evidence = read_evidence(ROOT / f"docs/evidence/{stem}.json")
    table = evidence.data["per_seed"]["0"]
    for one in evidence.comparisons:
        if isinstance(one, BoundedShare):
            sides = {one.name.removesuffix(", at 32x32, counts as trained"): one.this}
            size = "32x32"
        else:
            names, size = one.name.rsplit(" at ", 1)
            this, other = names.split(" against ")
            sides = {this: one.this, other: one.other}
        for name, side in sides.items():
            cell = table[name][size]
            share = side.successes / side.count
            assert share == pytest.approx(cell["class_accuracy"], abs=6e-5)
            assert side.wilson() == pytest.approx(cell["interval"], abs=6e-5)


def test_what_the_null_result_of_fitv2_says_makes_its_claim_fail():
    evidence = read_evidence(ROOT / "docs/evidence/fitv2.json")
    conditions = [one for one in evidence.comparisons if one.role == "condition"]
    assert {one.verdict for one in conditions} == {"holds"}
    assert not any("FiTv2" in one.name for one in conditions)
    decisive = [one.verdict for one in evidence.comparisons if one.role == "decisive"]
    assert decisive.count("fails") == len(decisive) - 1
    assert evidence.verdict == "fails"


def test_two_stages_values_are_those_of_its_runs():
    evidence = read_evidence(ROOT / "docs/evidence/two_stages.json")
    runs = evidence.data["runs"]
    for one in evidence.comparisons:
        found = [runs[side] for side in one.name.split(", against ")]
        for side, run in zip((one.this, one.other), found, strict=True):
            if one.figure == "class_accuracy":
                assert side.successes / side.count == pytest.approx(run[one.figure], abs=6e-5)
                assert side.wilson() == pytest.approx(run["interval"], abs=6e-5)
            elif one.figure == "fid":
                assert side == [run["fid"]]
            else:
                assert side == [sum(run["seconds"])]
    assert evidence.verdict == "inconclusive"


def test_apgs_differences_between_models_are_those_of_its_comparisons():
    evidence = read_evidence(ROOT / "docs/evidence/apg.json")
    for one in evidence.comparisons:
        (row,) = [
            row for row in evidence.data["less_cfg"] if row["scale"] == float(one.name.split()[-1])
        ]
        near = one.direction == "nearer"
        assert one.target == (evidence.data["real"][one.figure] if near else None)
        stated = row[f"distance_of_{one.figure}_to_real" if near else one.figure]
        sides = [
            [abs(v - one.target) for v in side] if near else side for side in (one.this, one.other)
        ]
        differences = [a - b for a, b in zip(*sides, strict=True)]
        assert stated["models"] == pytest.approx(differences, abs=2e-5)
        assert stated["interval"] == pytest.approx(one.interval, abs=2e-5)


def test_the_example_of_the_page_writes_a_document_that_passes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs/evidence.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(compile(example, "docs/evidence.md", "exec"), {})
    assert capsys.readouterr().out == "inconclusive\n"
    assert check_evidence(tmp_path / "docs/evidence/example.json") == []

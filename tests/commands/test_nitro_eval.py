"""What the rows of ``eval/nitro.py`` are trained as, and what its claim compares."""

import pytest

from diffgen.commands.nitro_eval.compared import comparisons
from diffgen.commands.nitro_eval.rows import rows_of
from diffgen.commands.nitro_eval.trainings import student_of
from diffgen.config.nitro_eval import ROWS, NitroEvalConfig
from diffgen.config.source import resolve
from diffgen.errors import UserError
from tests.lacon_runs import tiny_run

FIDS = {
    **{("teacher", 50): [5.0], ("regression", 1): [20.0], ("regression", 2): [15.0]},
    **{("plain", 1): [90.0], ("plain", 2): [60.0], ("plain", 4): [30.0]},
    **{("student", 1): [6.0, 6.1, 5.9], ("student", 2): [5.9, 6.2, 5.8]},
    **{("student", 4): [5.5, 5.4, 5.6], ("pool", 1): [8.0, 8.1, 8.3]},
    **{("fixed", 1): [9.0, 9.2, 9.4], ("refresh_0", 1): [8.1, 8.0, 8.3]},
    **{("regression_longer", 1): [17.0], ("linear", 1): [11.0]},
}


def found(accuracy: float = 0.96, **fids: list[float]) -> dict:
    """A nitro.json of three seeds; ``fids``: of rows in one step, in the place of the above."""
    every = FIDS | {(row, 1): values for row, values in fids.items()}
    rows = []
    for (row, steps), values in every.items():
        right = [accuracy + 0.001 * k for k in range(len(values))] if row == "student" else [0.98]
        of_seeds = [
            {
                "fid": {"mean": fid},
                "class_accuracy": {"mean": right[k % len(right)]},
                **dict.fromkeys(("fid_infinity", "precision", "recall")),
            }
            for k, fid in enumerate(values)
        ]
        rows.append({"row": row, "steps": steps, "of_seeds": of_seeds})
    return {"settings": {"seeds": [0, 1, 2], "teacher_steps": 50}, "rows": rows}


def verdicts(content: dict) -> dict[str, list]:
    """By role, those on each comparison."""
    judged: dict[str, list] = {"decisive": [], "aside": []}
    for one in comparisons(content):
        judged[one.role].append(one.judged().verdict)
    return judged


def test_a_student_near_its_teacher_and_ahead_of_the_rest_holds_in_all_eight():
    assert verdicts(found())["decisive"] == ["holds"] * 8


@pytest.mark.parametrize(
    ("change", "failing"),
    [
        ({"student": [7.0, 7.1, 6.9]}, 0),  # 1.3 times 5 is 6.5
        ({"accuracy": 0.945}, 1),  # 0.98 less 0.03 is 0.95
        ({"regression": [5.5]}, 2),
        ({"plain": [5.5]}, 3),
        ({"student": [5.0, 5.1, 4.9]}, 6),  # two steps are then more than 1.05 times worse
    ],
)
def test_each_part_of_the_claim_can_fail(change, failing):
    assert verdicts(found(**change))["decisive"][failing] == "fails"


def test_rows_of_one_seed_stay_inconclusive_and_those_of_several_are_paired():
    named = {one.name: one.judged() for one in comparisons(found()) if one.role == "aside"}
    assert named["pool against linear, of one seed"].verdict == "inconclusive"
    assert named["pool against one fixed discriminator"].verdict == "holds"
    assert named["pool against heads never begun anew"].verdict == "inconclusive"
    longer = named["pool against as many images more of regression"]
    assert (longer.verdict, longer.other) == ("holds", [17.0] * 3)


def test_a_missing_figure_that_the_claim_rests_on_is_told():
    content = found()
    content["rows"][0]["of_seeds"][0]["class_accuracy"] = None
    with pytest.raises(UserError, match="class_accuracy of one step against the teacher"):
        list(comparisons(content))


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    return resolve(str(tiny_run(tmp_path_factory.mktemp("work") / "tiny")))


def config(teacher, **options) -> NitroEvalConfig:
    values = {"source": str(teacher.run), "out": "table", "seeds": [3, 5], **options}
    return NitroEvalConfig.model_validate(values).settled(teacher)


def test_each_row_differs_from_the_options_only_where_its_name_says(teacher):
    asked = config(teacher, heads={"local_side": 0.75}, ablation_images=320)
    heads = {
        "pool": {},
        "fixed": {"pool": 3 * 4, "by_level": False, "share": 1, "refresh": 0.0},
        "refresh_0": {"refresh": 0.0},
        "refresh_5": {"refresh": 0.05},
        "no_local": {"local": False, "unconditional": False},
        "no_unconditional": {"unconditional": False},
        "linear": {"loss": "linear"},
        "softplus": {"loss": "softplus"},
    }
    for name, changed in heads.items():
        row = student_of(asked, name, 5, teacher)
        assert row.heads == asked.heads.model_copy(update=changed)
        assert (row.seed, row.steps, row.train.images) == (5, 1, 320)
        assert (str(row.out), str(row.reuse)) == (f"table/{name}-5", "table/regression-3")
        assert row.regression == asked.regression
        assert row.optimizer == asked.optimizer
    student = student_of(asked, "student", 5, teacher)
    assert (student.heads, student.steps, student.train) == (asked.heads, 4, asked.train)


def test_the_longer_regression_has_as_many_images_more_and_a_second_stage_of_one_batch(teacher):
    asked = config(teacher, ablation_images=320, reuse="elsewhere")
    first, longer = (
        student_of(asked, name, 3, teacher) for name in ("regression", "regression_longer")
    )
    assert longer.regression.train.images == asked.regression.train.images + 320
    assert first.regression == asked.regression
    assert first.train.images == longer.train.images == asked.train.batch_size
    assert (str(first.reuse), str(longer.reuse)) == ("elsewhere", "table/regression-3")


def test_rows_come_with_the_seeds_they_are_compared_over_and_the_configured_loss_once(teacher):
    asked = config(teacher, heads={"loss": "softplus"})
    rows = [(row.name, row.seed) for row in rows_of(asked, teacher)]
    several = {"student", "pool", "fixed", "refresh_0"}
    assert rows == [
        ("teacher", None),
        ("plain", None),
        *(
            (name, seed)
            for name in ROWS[2:]
            if name != "softplus"
            for seed in ((3, 5) if name in several else (3,))
        ),
    ]
    alone = rows_of(config(teacher, rows=["fixed"]), teacher)
    assert [(row.name, len(row.cells)) for row in alone] == [
        *(("regression", 0), ("fixed", 1), ("fixed", 1))
    ]

"""What the rows of ``eval/nitro.py`` are trained as, and what its claim compares."""

from collections import Counter

import pytest

from diffgen.commands.nitro_eval.compared import comparisons
from diffgen.commands.nitro_eval.heads import REFRESHED
from diffgen.commands.nitro_eval.rows import rows_of
from diffgen.commands.nitro_eval.trainings import student_of, unlike
from diffgen.config.nitro import NitroConfig
from diffgen.config.nitro_eval import ROWS, NitroEvalConfig
from diffgen.config.source import resolve
from diffgen.errors import UserError
from diffgen.nitro.pool import Compartments
from tests.lacon_runs import tiny_run

FIDS = {
    **{("teacher", 50): [5.0, 5.1, 4.9], ("regression", 1): [20.0, 20.2, 19.9]},
    **{("plain", 1): [90.0, 91.0, 89.0], ("plain", 2): [60.0, 61.0, 59.0]},
    **{("plain", 4): [30.0, 30.5, 29.5], ("regression", 2): [15.0, 15.1, 15.2]},
    **{("student", 1): [6.0, 6.1, 5.9], ("student", 2): [5.9, 6.2, 5.8]},
    **{("student", 4): [5.5, 5.4, 5.6], ("pool", 1): [8.0, 8.1, 8.3]},
    **{("fixed", 1): [9.0, 9.2, 9.4], ("refresh_0", 1): [8.1, 8.0, 8.3]},
    **{("regression_longer", 1): [17.0], ("linear", 1): [11.0]},
}


def found(accuracy: float = 0.96, **fids: list[float]) -> dict:
    """A nitro.json of three seeds; ``fids``: by row_steps, in the place of the above."""
    every = FIDS | {
        (row, int(steps)): values
        for (row, steps), values in ((key.rsplit("_", 1), one) for key, one in fids.items())
    }
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
        ({"student_1": [7.0, 7.1, 6.9]}, 0),  # 1.3 times 5 is 6.5
        ({"accuracy": 0.945}, 1),  # 0.98 less 0.03 is 0.95
        ({"regression_1": [5.5, 5.65, 5.35]}, 2),
        ({"plain_1": [5.5, 5.65, 5.35]}, 3),
        ({"plain_2": [5.5, 5.65, 5.35]}, 4),
        ({"plain_4": [5.5, 5.65, 5.35]}, 5),
        ({"student_2": [6.8, 6.9, 6.7]}, 6),  # 1.05 times 6 is 6.3
        ({"student_4": [6.8, 6.9, 6.7]}, 7),
    ],
)
def test_each_part_of_the_claim_can_fail_alone(change, failing):
    judged = verdicts(found(**change))["decisive"]
    assert judged == ["fails" if k == failing else "holds" for k in range(8)]


def test_values_are_paired_by_the_noise_they_are_drawn_from():
    tied = {
        "teacher_50": [4.0, 5.0, 6.0],
        "student_1": [5.1, 6.39, 7.71],
    }  # 0.1 below
    assert verdicts(found(**tied))["decisive"][0] == "holds"
    tied["student_1"].reverse()
    assert verdicts(found(**tied))["decisive"][0] == "inconclusive"


def test_rows_of_one_seed_stay_inconclusive_and_those_of_several_are_paired():
    named = {one.name: one.judged() for one in comparisons(found()) if one.role == "aside"}
    assert named["pool against linear, of one seed"].verdict == "inconclusive"
    assert named["pool against one fixed discriminator"].verdict == "holds"
    assert named["pool against heads never begun anew"].verdict == "inconclusive"
    longer = named["pool against regression_longer, of one seed"]
    assert (longer.verdict, longer.other) == ("inconclusive", [17.0])


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
        "no_local": {"local": False, "unconditional": False, "pool": 160},
        "no_unconditional": {"unconditional": False, "pool": 320},
        "linear": {"loss": "linear"},
        "softplus": {"loss": "softplus"},
    }
    for name, changed in heads.items():
        row = student_of(asked, name, 5, teacher)
        assert row.heads == asked.heads.model_copy(update=changed)
        assert (row.seed, row.steps, row.train.images) == (5, 1, 320)
        assert (str(row.out), str(row.reuse)) == (f"table/{name}-5", "table/regression-3")
        told = {"heads", "seed", "out", "reuse", "steps", "train", "score"}
        assert row.model_dump(exclude=told) == asked.model_dump(
            include=set(NitroConfig.model_fields) - told
        )
        length = {"images"}
        assert row.train.model_dump(exclude=length) == asked.train.model_dump(exclude=length)
        assert row.score == asked.score.model_copy(update={"collapse": 0.0})
    student = student_of(asked, "student", 5, teacher)
    assert (student.heads, student.steps, student.train) == (asked.heads, 4, asked.train)
    assert student.score.collapse == 0


@pytest.mark.parametrize("pool", [480, 250, 96])
def test_fewer_types_of_heads_have_as_many_in_each_compartment_as_the_pool(teacher, pool):
    asked = config(teacher, heads={"pool": pool, "share": 1})
    each = {
        name: Compartments(4, types, 4, student_of(asked, name, 3, teacher).heads.pool).each
        for name, types in (("pool", 3), ("no_local", 1), ("no_unconditional", 2))
    }
    assert len(set(each.values())) == 1, each


def test_images_are_drawn_and_scored_alike_in_every_row_value_by_value(teacher):
    asked = config(teacher, seed=40, num_images=64, pairs={"guidance": {"scale": 3}})
    students, teachers = [], []
    for row in rows_of(asked, teacher):
        of_row = teachers if row.training is None else students
        for steps, cell in row.cells.items():
            assert cell.config.steps == steps
            of_row.append(cell.config.model_dump(exclude={"source", "steps", "seed"}))
            number = 0 if row.seed is None else asked.seeds.index(row.seed)
            if row.training is not None and row.name != "regression":
                assert cell.config.seed == 40 + number
    assert all(one == students[0] for one in students)
    assert all(one == teachers[0] for one in teachers)
    differing = {name for name, value in students[0].items() if teachers[0][name] != value}
    assert differing == {"scheduler", "guidance"}
    for name in ("teacher", "plain", "regression"):
        noises = [row.noise for row in rows_of(asked, teacher) if row.name == name]
        assert noises == [40, 41]


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
    twice = [("teacher", None), ("plain", None), ("regression", 3)]
    assert (
        rows
        == [
            *(one for one in twice for _ in range(2)),  # from the noise of either seed
            *(
                (name, seed)
                for name in ROWS[3:]
                if name not in ("softplus", "refresh_1")
                for seed in ((3, 5) if name in several else (3,))
            ),
        ]
    )
    alone = rows_of(config(teacher, rows=["fixed"]), teacher)
    assert [(row.name, len(row.cells)) for row in alone] == [
        *(("regression", 0), ("fixed", 1), ("fixed", 1))
    ]


@pytest.mark.parametrize(
    ("refresh", "there"),
    [
        (0.0, {"refresh_1": 2, "refresh_5": 1}),
        (0.01, {"refresh_0": 2, "refresh_5": 1}),
        (0.05, {"refresh_0": 2, "refresh_1": 2}),
        (0.1, {"refresh_0": 2, "refresh_1": 2, "refresh_5": 1}),
    ],
)
def test_the_refresh_that_the_pool_has_is_no_row_of_its_own(teacher, refresh, there):
    asked = config(teacher, heads={"refresh": refresh}, rows=["pool", *REFRESHED])
    names = Counter(row.name for row in rows_of(asked, teacher) if row.cells)
    assert names == {"pool": 2, **there}


def test_rows_without_a_part_that_the_pool_lacks_are_left_out(teacher):
    asked = config(teacher, heads={"local": False, "unconditional": False, "loss": "linear"})
    names = {row.name for row in rows_of(asked, teacher)}
    assert names.isdisjoint({"no_local", "no_unconditional", "linear"})
    assert {"hinge", "softplus", "fixed"} <= names
    alone = config(teacher, rows=["hinge", "refresh_1"])
    with pytest.raises(UserError, match="rows: refresh_1, hinge would be as the row pool is"):
        rows_of(alone, teacher)


def test_other_checkpoints_to_choose_from_are_another_training_but_another_collapse_is_not(teacher):
    asked = student_of(config(teacher), "pool", 3, teacher)
    assert unlike("pool", asked, asked) == []
    other = asked.model_copy(update={"score": asked.score.model_copy(update={"collapse": 0.5})})
    assert unlike("pool", other, asked) == []
    loop = asked.train.model_copy(update={"checkpoint_images": 500, "images": 64})
    other = asked.model_copy(update={"train": loop})
    assert [line.split(":")[0] for line in unlike("pool", other, asked)] == [
        "train.images",
        "train.checkpoint_images",
    ]
    assert unlike("regression", other, asked) == []  # its second stage is not looked at

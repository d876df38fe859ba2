"""The benchmark of students: what each variant computes, and a run of it on tiny models."""

import json

import pytest

from benchmarks.nitro import drawings, main, random_pair
from tests.students import student
from tests.tiny import build

# diffusers hands a tensor to numpy the old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def test_a_variant_makes_the_network_calls_of_its_name_and_the_teacher_two_at_once():
    teacher, few = build("dpmpp", prediction="x0"), student()
    seen = []
    for pipe in (teacher, few):
        pipe.transformer.register_forward_pre_hook(lambda _, x: seen.append(len(x[0])))
    made = {}
    for name, draw in drawings(teacher, few, 3, "pt").items():
        seen.clear()
        draw()
        made[name] = list(seen)
    assert next(iter(made)) == "student_1"
    assert made == {
        **{f"student_{n}": [3] * n for n in (1, 2, 4)},
        **{f"teacher_{n}": [6] * n for n in (50, 25)},
    }


@pytest.mark.slow
def test_runs_are_compared_and_written_down(tmp_path):
    build("dpmpp", prediction="x0").save_pretrained(tmp_path / "teacher")
    student(steps=(1, 2)).save_pretrained(tmp_path / "student")
    runs = ["--teacher", str(tmp_path / "teacher"), "--student", str(tmp_path / "student")]
    main([*runs, "--batch", "2", "--rounds", "5", "--out", str(tmp_path / "results")])
    (file,) = (tmp_path / "results").iterdir()
    data = json.loads(file.read_text())
    assert file.name.startswith("nitro-runs-")
    assert list(data["variants"]) == ["student_1", "student_2", "teacher_50", "teacher_25"]
    assert {one["to"] for one in data["ratios"].values()} == {"student_1"}
    assert data["items_per_call"] == 2


def test_without_runs_both_are_one_model_of_the_demo():
    teacher, few = random_pair("demo")
    assert teacher.transformer is few.transformer
    assert (teacher.distilled, few.distilled.steps) == (None, (1, 2, 4))
    assert tuple(teacher.transformer.config.sample_size) == (32, 32)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--teacher", "teacher"], "give both --teacher and --student, or neither"),
        (["--teacher", "model", "--student", "model"], "--student model is not distilled"),
    ],
)
def test_what_cannot_be_compared_is_refused(argv, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    build().save_pretrained("model")
    with pytest.raises(SystemExit):
        main(argv)
    assert said in capsys.readouterr().err

"""A distilled model on the command line: its own settings, and refusals of what does not fit."""

import json
from pathlib import Path

import pytest
import torch

from diffgen import DiffGenPipeline
from diffgen.data.shapes import CLASS_NAMES
from diffgen.sampling.schedulers import build_scheduler
from tests.e2e.refused import check_refused
from tests.tiny import build

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
FEW = {"steps": [1, 2, 4], "timestep_shift": 1.0}


def model(**options):
    return build(sample_size=(16, 16), num_classes=len(CLASS_NAMES), **options).transformer


def perturbed(transformer, seed: int):
    """The model with noise of 0.01 on every weight."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in transformer.parameters():
            p.add_(0.01 * torch.randn(p.shape, generator=generator))
    return transformer


def save(place: Path, transformer, distilled=None) -> None:
    scheduler = build_scheduler("lcm" if distilled else "euler")
    names = list(CLASS_NAMES)
    DiffGenPipeline(transformer, scheduler, names, distilled=distilled).save_pretrained(place)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A teacher, a student of it, another model of its kind, and one of another width."""
    folder = tmp_path_factory.mktemp("user")
    save(folder / "teacher", model())
    save(folder / "student", perturbed(model(), 1), FEW)
    save(folder / "tuned", perturbed(model(), 2))
    save(folder / "wide", model(hidden_size=48))
    return folder


def drawn_with(file: Path) -> tuple:
    """Solver, steps and guidance that the settings of a JSON state."""
    settings = json.loads(file.read_text())["settings"]
    guidance = settings["guidance"]
    return settings["scheduler"], settings["steps"], guidance["kind"], guidance["scale"]


def test_what_is_not_given_is_the_students_own_in_pictures_and_settings(run, place):
    run("sample", "student", "--num-images", "3", "--out", "few")
    assert drawn_with(place / "few/settings.json") == ("lcm", 1, "cfg", 1.0)
    run("sample", "student", "--steps", "1", "--scheduler", "lcm", "--num-images", "3",
        "--guidance.scale", "1", "--out", "stated")  # fmt: skip
    for picture in sorted((place / "few/16x16").iterdir()):
        assert (place / "stated/16x16" / picture.name).read_bytes() == picture.read_bytes()
    run("sample", "student", "--steps", "4", "--size", "24x18", "--num-images", "3", "--out", "4")
    assert drawn_with(place / "4/settings.json") == ("lcm", 4, "cfg", 1.0)
    assert len(list((place / "4/24x18").iterdir())) == 3


def test_it_is_scored_at_its_own_settings(run, place):
    said = run("eval", "student", "--num-images", "12", "--out", "scores.json")
    assert "student at 16x16: 12 images" in said
    assert drawn_with(place / "scores.json") == ("lcm", 1, "cfg", 1.0)
    run("eval", "student", "--num-images", "12", "--steps", "2", "--out", "scores.json")
    assert drawn_with(place / "scores.json") == ("lcm", 2, "cfg", 1.0)


def test_a_table_of_sizes_holds_it_beside_its_teacher(run, place):
    run("resolutions", "student", "teacher", "--sizes", "16x16", "--num-images", "12",
        "--steps", "2", "--pictures", "2", "--out", "table")  # fmt: skip
    cells = place / "table/cells"
    assert drawn_with(cells / "student-16x16.json") == ("lcm", 2, "cfg", 1.0)
    assert drawn_with(cells / "teacher-16x16.json") == ("dpmpp", 2, "cfg", 2.0)


def test_what_does_not_fit_it_is_refused_in_one_line_and_without_torch(place, tmp_path):
    student, teacher = str(place / "student"), str(place / "teacher")
    guided = "but the model is distilled: its teacher's guidance is built in"
    settings = tmp_path / "settings.yaml"
    settings.write_text("scheduler: dpmpp\n")
    refused = f"source: {student} is distilled to few steps"
    few = "but the model is distilled to 1, 2 or 4 steps, and draws with no others"
    cases = [
        (verb, [student, *argv], said)
        for verb in ("sample", "eval")
        for argv, said in (
            (["--steps", "20"], f"{verb}: steps: 20, {few}\n"),
            (["--scheduler", "euler"], "scheduler: euler, but the model is distilled and walked"),
            (["--config", str(settings)], "scheduler: dpmpp, but the model is distilled"),
            (["--guidance.scale", "4"], f"guidance: cfg 4, {guided}"),
            (["--guidance.kind", "apg"], f"guidance: apg 2, {guided}"),
            (["--guidance.kind", "cfg_zero_star", "--guidance.scale", "1"], guided),
            (["--time-shift", "sqrt"], "time_shift: sqrt, but the model is distilled"),
            (["--size", "15x16"], "not divisible by the patch size 2"),
        )
    ]
    cases += [
        ("sample", [student, "--constraint", "edge=x.png"], "late constraints steer the early"),
        (
            "sample",
            [teacher, "--guidance.kind", "autoguidance", "--guidance.guide", student],
            "guidance.guide: it is distilled",
        ),
        ("lacon", [student], f"{refused}: it predicts at the few noise levels it was trained for"),
        ("joint", [student], f"{refused}: it predicts at the few noise levels"),
        ("guidance-sweep", [student], f"{refused}: its teacher's guidance is built in"),
        ("lacon-sweep", [student], f"{refused}: it predicts at the few noise levels"),
        ("joint-sample", [student, "--want", "image,depth"], f"{refused}: it predicts"),
        ("joint-eval", [student], f"{refused}: it predicts"),
        ("resolutions", [student, "--steps", "3"], "steps: 3, but the model is distilled"),
    ]
    check_refused(cases, tmp_path)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(DiffGenPipeline.from_pretrained(folder).transformer.named_parameters())


def test_the_difference_of_weights_passes_the_distillation_on(run, place):
    said = run("convert", "tuned", "fast", "--add-difference", "student", "--base", "teacher")
    names = ("fast", "tuned", "student", "teacher")
    fast, tuned, student, teacher = (weights(place / name) for name in names)
    difference = {name: student[name] - teacher[name] for name in student}
    for name, weight in fast.items():
        expected = tuned[name] + difference[name]
        torch.testing.assert_close(weight, expected, rtol=0, atol=1e-7)
    norms = [
        torch.cat([w.flatten() for w in found.values()]).norm() for found in (difference, teacher)
    ]
    assert f"the difference added is {norms[0] / norms[1]:.3g} of the norm of teacher" in said
    assert "distilled to 1, 2 or 4 steps" in said
    pipe = DiffGenPipeline.from_pretrained(place / "fast")
    assert pipe.distilled is not None
    assert pipe.distilled.model_dump(mode="json") == FEW
    assert list(pipe.config.class_names) == list(CLASS_NAMES)
    run("sample", "fast", "--num-images", "1", "--out", "of-fast")
    assert drawn_with(place / "of-fast/settings.json") == ("lcm", 1, "cfg", 1.0)


def test_added_to_its_own_base_the_difference_gives_the_student_to_the_bit(run, place):
    run("convert", "teacher", "same", "--add-difference", "student", "--base", "teacher")
    same, student = weights(place / "same"), weights(place / "student")
    assert all(torch.equal(same[name], student[name]) for name in student)


def test_a_difference_that_means_nothing_is_refused(run, place):
    add = ["--add-difference", "student"]
    cases = [
        ([*add], "base: is needed with add_difference, the model that student was distilled from"),
        (["--base", "teacher"], "base: has no effect without add_difference"),
        (["--add-difference", "teacher", "--base", "tuned"], "teacher is not distilled"),
        ([*add, "--base", "student"], "base: student is distilled already"),
        ([*add, "--base", "nowhere"], "base: nowhere does not exist"),
        ([*add, "--base", "teacher", "--num-heads", "2"], "num_heads: has no effect with add_diff"),
        (
            [*add, "--base", "wide"],
            "base: wide is another model: its hidden_size is 48, that of the source 32",
        ),
    ]
    for argv, said in cases:
        assert said in run("convert", "tuned", "out", *argv, expect=2)
        assert not (place / "out").exists()

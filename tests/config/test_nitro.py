"""The configuration of a distillation: what is refused at once, what is left to its teacher."""

import json
from pathlib import Path
from typing import Any

import pytest

from diffgen.config.command_line import parse
from diffgen.config.nitro import NitroConfig
from diffgen.config.process import DDPMConfig
from diffgen.config.source import resolve
from diffgen.training.run_folder import differences
from tests.e2e.refused import Case, check_refused, pipeline_folder, write_json


def model(folder: Path, chain: DDPMConfig | None = None, **options: Any) -> None:
    """The JSON of a pipeline."""
    place = Path(pipeline_folder(folder))
    sizes = {"hidden_size": 32, "depth": 2, "patch_size": 4, "in_channels": 3}
    rest = {"num_classes": 2, "sample_size": [32, 32]}
    write_json(place / "transformer/config.json", {**sizes, **rest, **options})
    if chain is not None:
        settings = {"_class_name": "DDIMScheduler", **chain.beta_settings()}
        write_json(place / "scheduler/scheduler_config.json", settings)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A ``flow``, two DDPM models, a ``student`` and a model of latents without a VAE."""
    folder = tmp_path_factory.mktemp("work")
    model(folder / "flow")
    model(folder / "chain", DDPMConfig(betas="cosine"), prediction="v")
    model(folder / "eps", DDPMConfig(betas="cosine"), prediction="eps")
    model(folder / "many", num_classes=1000)
    model(folder / "grey", in_channels=1)
    model(folder / "student")
    index = folder / "student/model_index.json"
    few = {"steps": [1, 2], "timestep_shift": 1.0}
    write_json(index, {**json.loads(index.read_text()), "distilled": few})
    model(folder / "latent", in_channels=4)
    form = {"factor": 2, "mean": [0] * 4, "std": [1] * 4}
    write_json(folder / "latent/model_index.json", {"latent_format": form})
    return folder


def test_what_cannot_be_is_refused_before_anything_is_loaded(folder):
    cases: list[Case] = [
        ("nitro", ["nowhere"], "nowhere"),
        ("nitro", ["student"], "source: student is distilled itself; give its teacher"),
        ("nitro", ["latent"], "is a model of latents without a VAE; give one with --vae"),
        (
            "nitro",
            ["flow", "--heads.loss", "wgan"],
            "heads.loss: input should be 'linear', 'hinge'",
        ),
        ("nitro", ["flow", "--heads.pool", "0"], "heads.pool: input should be greater than or eq"),
        ("nitro", ["flow", "--heads.levels", "[1.0]"], "heads.levels"),
        ("nitro", ["flow", "--heads.levels", "[]"], "heads.levels: "),
        ("nitro", ["flow", "--heads.refresh", "1.5"], "heads.refresh: input should be less than"),
        ("nitro", ["flow", "--heads.local-side", "0"], "heads.local_side: input should be greater"),
        ("nitro", ["flow", "--no-heads.local"], "heads.unconditional: these heads see crops"),
        ("nitro", ["flow", "--steps", "3"], "steps: input should be 1, 2 or 4"),
        ("nitro", ["flow", "--timestep-shift", "0"], "timestep_shift: input should be greater"),
        ("nitro", ["flow", "--timestep-shift", "1.5"], "timestep_shift: input should be less"),
        ("nitro", ["flow", "--score.count", "99"], "score.count: input should be greater than"),
        ("nitro", ["flow", "--score.collapse", "1"], "score.collapse: input should be less than"),
        (
            "nitro",
            ["flow", "--pairs.scheduler", "ddim"],
            "pairs.scheduler: ddim cannot walk a flow",
        ),
        ("nitro", ["chain", "--pairs.scheduler", "euler"], "pairs.scheduler: euler cannot walk a"),
        ("nitro", ["flow", "--pairs.guidance.kind", "autoguidance"], "pairs.guidance.guide: "),
        ("nitro", ["flow", "--data.kind", "shapes"], "data: has no effect with real teacher; give"),
        (
            "nitro",
            ["flow", "--real", "data"],
            "data.kind: flow is in no run folder that would tell",
        ),
        (
            "nitro",
            ["flow", "--real", "data", "--data.kind", "shapes", "--data.size", "30x32"],
            "data.size: 30x32, but the model was trained at 32x32",
        ),
        (
            "nitro",
            ["flow", "--real", "data", "--data.kind", "folder", "--data.path", "gone"],
            "gone does not exist",
        ),
        (
            "nitro",
            ["flow", "--train.precision", "bf16", "--device", "cpu"],
            "train.precision: bf16",
        ),
        (
            "nitro",
            ["flow", "--train.precision", "bf16"],
            "regression.train.precision: fp32, but train.precision is bf16; both stages compute",
        ),
        (
            "nitro",
            ["flow", "--regression.train.batch-size", "6", "--regression.train.accumulation", "4"],
            "regression.train.accumulation: 4 does not divide",
        ),
        (
            "nitro",
            ["flow", "--train.batch-size", "6", "--train.accumulation", "4"],
            "train.accumulation: 4 does not divide train.batch_size 6",
        ),
        ("nitro", ["flow", "--heads.leveles", "[0.5]"], "did you mean heads.levels?"),
        ("nitro", ["flow", "--heads.levels", "[0.5, 0.1, 0.5]"], "heads.levels: 0.5, 0.1, 0.5 na"),
        ("nitro", ["chain", "--heads.levels", "[0.0005]"], "heads.levels: 0.0005 lies below the f"),
        (
            "nitro",
            ["flow", "--heads.share", "2", "--heads.pool", "95"],
            "heads.pool: 95 heads cannot give 2 to each of 48 compartments (4 levels, 3 types, 4 "
            "taps); give 96 or more",
        ),
        ("nitro", ["flow", "--one-step", "1"], "one_step: 1 leaves no image to courses of up to 4"),
        ("nitro", ["flow", "--pairs.count", "99"], "pairs.count: input should be greater than or"),
        (
            "nitro",
            ["many"],
            "score.count: 1000, but the variance within each of 1000 classes takes two images of "
            "it; give 2000 or more",
        ),
        ("nitro", ["many", "--pairs.count", "1999"], "pairs.count: 1999, but the variance within"),
        ("nitro", ["flow", "--pairs.inference", "random"], "pairs.inference: "),
        ("nitro", ["flow", "--out", "chain"], "out: chain is the folder of a model; a student n"),
        ("nitro", ["flow", "--out", "flow"], "out: flow is the folder of a model; a student needs"),
        (
            "nitro",
            ["grey", "--real", "data", "--data.kind", "shapes", "--data.size", "32x32"],
            "source: grey is a model of 1 channel, but pictures have 3",
        ),
    ]
    check_refused(cases, folder)


def read(*argv: str) -> NitroConfig:
    return parse(NitroConfig, list(argv), "nitro")


@pytest.mark.parametrize(
    ("name", "given", "shift"),
    [
        ("flow", (), 1.0),
        ("chain", (), 1.0),
        ("eps", (), 0.25),
        ("eps", ("--timestep-shift", "0.5"), 0.5),
        ("flow", ("--timestep-shift", "0.5"), 0.5),
    ],
)
def test_the_shift_is_the_released_one_of_eps_models_alone_unless_given(
    folder, monkeypatch, name, given, shift
):
    monkeypatch.chdir(folder)
    settled = read(name, *given).settled(resolve(name))
    assert settled.timestep_shift == shift
    assert settled.out == folder / f"{name}-nitro"
    assert settled.settled(resolve(name)) == settled


def test_a_folder_that_is_given_is_taken(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert read("flow", "--out", "elsewhere").settled(resolve("flow")).out == Path("elsewhere")


def test_courses_open_one_after_the_other_over_the_second_part():
    """Half the images train one step alone, a quarter two as well, a quarter four as well."""
    config = NitroConfig(source="x", train={"images": 40_000})
    assert config.counts == (1, 2, 4)
    assert config.courses == [(0, 1), (20_000, 2), (30_000, 4)]
    assert config.times == [0.75, 0.5, 0.25]
    two = config.model_copy(update={"steps": 2, "one_step": 0.75})
    assert (two.counts, two.courses) == ((1, 2), [(0, 1), (30_000, 2)])
    assert two.times == [0.5]
    one = config.model_copy(update={"steps": 1})
    assert (one.counts, one.courses, one.times) == ((1,), [(0, 1)], [])


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_the_most_steps_are_read_from_a_command_line(folder, monkeypatch, steps):
    monkeypatch.chdir(folder)
    assert read("flow", "--steps", str(steps)).steps == steps


def test_a_student_goes_on_where_only_the_looking_changes(folder, monkeypatch):
    monkeypatch.chdir(folder)
    before = read("flow")
    free = [
        *("--pairs.batch-size", "7", "--pairs.decode-batch-size", "7", "--pairs.decode-tiled"),
        *("--regression.train.log-images", "7", "--regression.train.sample-images", "7"),
        *("--regression.train.checkpoint-images", "7", "--regression.train.workers", "1"),
        *("--regression.train.keep-checkpoints", "7", "--train.log-images", "7"),
    ]
    assert list(differences(before, read("flow", *free))) == []
    for more in (("--regression.later", "0.5"), ("--regression.train.images", "7")):
        (found,) = differences(before, read("flow", *more))
        assert found.startswith(more[0].removeprefix("--"))

"""Which predictions and solvers go with which process, and what a saved pipeline tells of it."""

import json
from pathlib import Path

import pytest

from diffgen.config.command_line import parse, to_yaml
from diffgen.config.evaluate import EvaluateConfig
from diffgen.config.process import DDPMConfig, FlowConfig, process_of
from diffgen.config.sample import SampleConfig
from diffgen.config.source import resolve
from diffgen.config.train import TrainConfig
from diffgen.errors import UserError
from diffgen.sampling.schedulers import build_scheduler


@pytest.fixture(autouse=True)
def _in_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def read(*argv, schema=TrainConfig):
    return parse(schema, list(argv), "prog")


def refusal(*argv, schema=TrainConfig):
    with pytest.raises(UserError) as error:
        read(*argv, schema=schema)
    return str(error.value)


def test_the_resolved_process_is_written_out_and_read_back(tmp_path):
    config = read("--process.kind", "ddpm", "--process.weighting.kind", "min_snr")
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    assert "prediction: x0\n" in to_yaml(config)
    again = read("--config", "config.yaml")
    assert again == config
    assert again.process.weighting.gamma == 5


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--model.prediction", "v"], "model.prediction: v does not go with process.kind flow"),
        (["--model.prediction", "eps"], "it takes x0, velocity"),
        (["--process.kind", "ddpm", "--model.prediction", "velocity"], "it takes x0, v, eps"),
        (["--sampling.scheduler", "ddim"], "sampling.scheduler: ddim cannot walk a flow model"),
        (["--sampling.scheduler", "ddpm"], "use euler, heun, dpmpp"),
        (["--process.kind", "ddpm", "--sampling.scheduler", "heun"], "use ddim, ddpm, dpmpp"),
        (["--process.kind", "ddpm", "--sampling.steps", "1001"], "sampling.steps: 1001 is more"),
        (["--process.kind", "ddpm", "--process.num-train-timesteps", "20"], "num_train_timesteps"),
        (["--process.kind", "vp"], "process.kind: 'vp' is not one of 'flow', 'ddpm'"),
        (["--process.betas", "cosine"], "process.betas: does not belong to the kind chosen"),
        (
            ["--process.kind", "ddpm", "--process.times.std", "2"],
            "process.times: does not belong to the kind chosen",
        ),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(argv, said):
    message = refusal(*argv)
    assert said in message
    assert len(message.splitlines()) == 1


def test_every_misfit_at_once():
    message = refusal(
        *("--process.kind", "ddpm", "--model.prediction", "velocity"),
        *("--sampling.scheduler", "euler", "--sampling.steps", "5000"),
    )
    assert message.startswith("prog: 3 mistakes")


def test_all_steps_of_a_flow_may_be_asked_for():
    assert read("--sampling.steps", "5000").sampling.steps == 5000


PROCESSES = [
    FlowConfig(),
    DDPMConfig(),
    DDPMConfig(betas="cosine", num_train_timesteps=250),
    DDPMConfig(num_train_timesteps=77, learned_variance=True),
]


@pytest.mark.parametrize("process", PROCESSES, ids=str)
def test_a_saved_scheduler_tells_the_process(tmp_path, process):
    channels = {"in_channels": 3, "out_channels": 6 if process.learned_variance else None}
    for name in process.schedulers:
        build_scheduler(name, process=process).save_pretrained(tmp_path)
        saved = json.loads((tmp_path / "scheduler_config.json").read_text())
        assert process_of(saved, channels) == process


@pytest.mark.parametrize(
    "betas",
    [
        {"beta_schedule": "scaled_linear"},
        {"beta_start": 1e-4, "beta_end": 0.03},
        {"trained_betas": [0.1, 0.2]},
        {"rescale_betas_zero_snr": True},
    ],
)
def test_other_betas_are_refused(betas):
    saved = build_scheduler("ddim", process=DDPMConfig()).config
    with pytest.raises(UserError, match="the betas of DDIMScheduler are neither linear"):
        process_of({**saved, "_class_name": "DDIMScheduler", **betas}, {})


@pytest.fixture
def source(tmp_path) -> str:
    """The JSON of a DDPM pipeline with 50 noise levels."""
    folder = Path(tmp_path) / "model"
    (folder / "transformer").mkdir(parents=True)
    (folder / "model_index.json").write_text(json.dumps({"class_names": ["circle"]}))
    config = {"patch_size": 4, "in_channels": 3, "num_classes": 1, "sample_size": [32, 32]}
    (folder / "transformer" / "config.json").write_text(json.dumps(config))
    process = DDPMConfig(num_train_timesteps=50)
    build_scheduler("ddim", process=process).save_pretrained(folder / "scheduler")
    assert resolve(str(folder)).process == process
    return str(folder)


@pytest.mark.parametrize("schema", [SampleConfig, EvaluateConfig])
def test_sampling_and_scoring_know_the_models_solvers(source, schema):
    assert read(source, "--scheduler", "ddpm", schema=schema).scheduler == "ddpm"
    message = refusal(source, "--scheduler", "euler", schema=schema)
    assert message == "prog: scheduler: euler cannot walk a ddpm model; use ddim, ddpm, dpmpp, lcm"
    message = refusal(source, "--steps", "51", schema=schema)
    assert message == "prog: steps: 51 is more than the model's 50 noise levels"

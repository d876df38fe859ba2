"""The files a training is launched by: accelerate's, Slurm's, and the recipes they are given."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType

from diffgen.commands.begin_training import open_accelerator
from diffgen.config.command_line import parse
from diffgen.config.loop import LoopConfig
from diffgen.config.train import TrainConfig
from tests.logs import curve

ROOT = Path(__file__).parents[2]
LAUNCHES = {path.stem: path for path in sorted((ROOT / "configs/accelerate").glob("*.yaml"))}
BATCH = ROOT / "configs/slurm/train.sbatch"


@pytest.mark.parametrize("name", LAUNCHES)
def test_accelerate_knows_every_line_of_a_launch_file(name):
    """Its loader refuses keys it does not know; what it read is what stands there."""
    read = load_config_from_file(str(LAUNCHES[name])).to_dict()
    written = yaml.safe_load(LAUNCHES[name].read_text())
    given = {key: value for key, value in written.items() if value is not None}
    assert {key: read[key] for key in given} == given


def test_launch_files_say_how_many_processes_and_nothing_of_how_they_compute():
    found = {name: load_config_from_file(str(path)) for name, path in LAUNCHES.items()}
    assert {n: (f.distributed_type, f.num_machines, f.num_processes) for n, f in found.items()} == {
        "one-gpu": (DistributedType.NO, 1, 1),
        "ddp": (DistributedType.MULTI_GPU, 1, 8),
        "machines": (DistributedType.MULTI_GPU, 2, 16),
    }
    for file in found.values():
        assert file.mixed_precision == "no"
        assert file.fsdp_config == file.deepspeed_config == file.dynamo_config == {}


def test_the_precision_of_a_training_wins_over_that_of_a_launch_file(monkeypatch, tmp_path):
    """The launcher hands it on as this variable."""
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    AcceleratorState._reset_state()
    assert open_accelerator(LoopConfig(), "cpu", tmp_path).mixed_precision == "no"


@pytest.mark.parametrize(
    ("recipe", "more"),
    [
        ("dit", ["--optimizer.kind", "adamw"]),
        ("fitv2", []),
        ("fitv2", ["--model.size", "FiTv2-3B", "--train.gradient-checkpointing"]),
    ],
)
def test_the_large_recipes_are_accepted_sharded(recipe, more, make_vae, tmp_path, capsys):
    argv = ["--config", str(ROOT / f"configs/{recipe}.yaml"), "--data.kind", "shapes"]
    argv += ["--data.size", "256x256", "--vae.path", str(make_vae(4)), "--device", "cpu"]
    argv += ["--train.sharding", "full", "--train.accumulation", "4"]
    with pytest.raises(SystemExit) as stopped:
        parse(TrainConfig, [*argv, "--out", str(tmp_path), *more, "--dry-run"], "train/dit.py")
    assert stopped.value.code == 0
    config = TrainConfig.model_validate(yaml.safe_load(capsys.readouterr().out))
    assert config.train.sharding == "full"
    assert config.optimizer.kind == "adamw"
    if "FiTv2-3B" in more:
        assert (config.model.depth, config.model.hidden_size) == (40, 2304)
        assert config.train.gradient_checkpointing


def test_the_batch_script_is_bash_and_names_files_that_exist():
    subprocess.run(["bash", "-n", BATCH], check=True)
    named = re.findall(r"\b(?:configs|train)/[\w./-]+\w", BATCH.read_text())
    assert {"train/dit.py", "configs/slurm/train.sbatch"} <= set(named)
    assert all((ROOT / name).is_file() for name in named)


# What the script calls of Slurm: two processes on this machine, which get SIGTERM as from Slurm.
SRUN = """#!/bin/bash
while [[ $1 == --* ]]; do shift; done
for rank in 0 1; do SLURM_PROCID=$rank SLURM_LOCALID=$rank "$@" & tasks+=($!); done
echo "${tasks[@]}" > tasks.new && mv tasks.new tasks
code=0
for task in "${tasks[@]}"; do wait "$task"; one=$?; code=$((one > code ? one : code)); done
exit $code
"""
SCONTROL = """#!/bin/bash
if [[ $1 == show ]]; then echo 127.0.0.1; else echo "$@" >> asked; fi
"""


def submitted(folder: Path, *argv: str) -> subprocess.Popen:
    """The batch script as Slurm runs it, on the CPU, in a folder that has diffgen's scripts."""
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    path = os.pathsep.join([str(folder), str(Path(sys.executable).parent), os.environ["PATH"]])
    slurm = {"SLURM_JOB_ID": str(os.getpid()), "SLURM_JOB_NODELIST": "here"}
    slurm |= {"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2"}
    environment = {**os.environ, **slurm, "PATH": path, "ACCELERATE_USE_CPU": "true"}
    with (folder / "said").open("a") as said:
        return subprocess.Popen(
            ["bash", BATCH, *argv], cwd=folder, env=environment, stdout=said, stderr=said
        )


@pytest.mark.slow
def test_a_job_near_its_time_limit_saves_asks_to_be_requeued_and_then_goes_on(tmp_path):
    (tmp_path / "train").symlink_to(ROOT / "train")
    argv = ["--config", str(ROOT / "configs/debug.yaml"), "--device", "cpu", "--out", "run"]
    argv += ["--train.images", "12800", "--train.sample-images", "0", "--report.num-images", "0"]
    argv += ["--train.checkpoint-images", "12800", "--report.sizes", "16x16"]
    job, log = submitted(tmp_path, *argv), tmp_path / "run/metrics.jsonl"
    while job.poll() is None and not log.exists():
        time.sleep(0.05)
    assert job.poll() is None, (tmp_path / "said").read_text()
    for task in (tmp_path / "tasks").read_text().split():
        os.kill(int(task), signal.SIGTERM)
    assert job.wait(60) == 143, (tmp_path / "said").read_text()
    assert (tmp_path / "asked").read_text().startswith("requeue ")
    (saved,) = (tmp_path / "run/checkpoints").glob("images-*")
    assert 0 < int(saved.name.removeprefix("images-")) < 12_800

    assert submitted(tmp_path, *argv).wait(240) == 0, (tmp_path / "said").read_text()
    said = (tmp_path / "said").read_text()
    assert "stopped by SIGTERM" in said
    assert "resuming run at" in said
    lines = curve(tmp_path / "run")
    assert lines[-1]["images"] == 12_800
    assert {line["processes"] for line in lines} == {2}
    assert (tmp_path / "run/pipeline/model_index.json").is_file()

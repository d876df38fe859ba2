"""Short trainings of adapters for tiny models with random weights."""

from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from diffgen.config.command_line import merge
from diffgen.config.joint import JointConfig
from tests.trainings import TWELVE_STEPS


def settings(run: Path, **changes: Any) -> JointConfig:
    """A training of 96 pairs in 12 steps; ``section={...}`` changes single fields."""
    base = {
        "source": str(run),
        "device": "cpu",
        **TWELVE_STEPS,
    }
    return JointConfig.model_validate(merge(base, changes))


def tensors(out: Path) -> dict[str, Tensor]:
    """Every tensor of the newest checkpoint and of what was exported, by file and name."""
    newest = sorted((out / "checkpoints").iterdir())[-1]
    folders = (newest, out / "adapter", out / "channels")
    return {
        f"{file.relative_to(out)}/{name}": tensor
        for folder in folders
        for file in folder.glob("*.safetensors")
        for name, tensor in load_file(file).items()
    }

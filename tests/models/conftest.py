"""The released implementations' numbers, and models with their weights."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from diffgen.models import DiT, load_released

GOLDEN = Path(__file__).parents[1] / "data/golden"


def weights_of(name: str) -> dict[str, torch.Tensor]:
    """The weights of ``dit`` or ``fitv2`` in their released layout."""
    tensors = load_file(GOLDEN / f"{name}.safetensors")
    return {k.removeprefix("weights."): v for k, v in tensors.items() if k.startswith("weights.")}


@pytest.fixture(scope="session")
def golden_file(tmp_path_factory):
    """``golden_file("dit")``: a checkpoint with the golden weights, as one would be published."""

    def write(name: str) -> Path:
        path = tmp_path_factory.mktemp("released") / f"{name}.safetensors"
        save_file(weights_of(name), path)
        return path

    return write


@pytest.fixture(scope="session")
def released_dit(golden_file):
    """``released_dit()`` gives the model and every golden tensor by name."""

    def load() -> tuple[DiT, dict[str, torch.Tensor]]:
        golden = load_file(GOLDEN / "dit.safetensors")
        return load_released(golden_file("dit"), num_heads=2), golden

    return load


@pytest.fixture(scope="session")
def released_fitv2(golden_file):
    """``released_fitv2(**position)``: the model with a rotary setting, and the golden tensors."""
    path = golden_file("fitv2")
    with safe_open(GOLDEN / "fitv2.safetensors", "pt") as file:
        side = int(json.loads(file.metadata()["config"])["context_size"] ** 0.5)

    def load(**position) -> tuple[DiT, dict[str, torch.Tensor]]:
        read = load_released(path, num_heads=2)
        config = {k: v for k, v in dict(read.config).items() if k[0] != "_"}
        rope = {"kind": "rope", "additive": False, **position}
        model = DiT(**{**config, "sample_size": (2 * side, 2 * side), "position": rope})
        model.load_state_dict(read.state_dict())
        return model.eval(), load_file(GOLDEN / "fitv2.safetensors")

    return load

"""Whether stored weights are those of a model."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from diffgen.models.dit import DiT

Shapes = Mapping[str, Sequence[int]]


def misfit(wanted: Shapes, found: Shapes) -> str | None:
    """The first weight that is missing, of another shape, or of no use; None: all fit."""
    for name, shape in wanted.items():
        if name not in found:
            return f"{name} is missing"
        if tuple(found[name]) != tuple(shape):
            return f"{name} has the shape {tuple(found[name])}, not {tuple(shape)}"
    unused = next((name for name in found if name not in wanted), None)
    return f"{unused} has no place in the model" if unused else None


def shapes(tensors: Mapping[str, Tensor]) -> dict[str, Sequence[int]]:
    """Of every tensor, by its name."""
    return {name: tensor.shape for name, tensor in tensors.items()}


def stored_misfit(folder: Path) -> str | None:
    """What of the weights in a saved DiT's folder does not fit its ``config.json``.

    Raises:
        ValueError, TypeError: the configuration is none of a DiT.
        OSError, SafetensorError: a file is missing or damaged.
    """
    with torch.device("meta"):  # shapes alone
        model = DiT.from_config(DiT.load_config(folder))
    found: dict[str, Sequence[int]] = {}
    for file in sorted(folder.glob("*.safetensors")):  # large models are saved in shards
        with safe_open(file, "pt") as weights:
            names = weights.keys()
            found |= {name: weights.get_slice(name).get_shape() for name in names}
    return misfit(shapes(model.state_dict()), found)

"""Whether stored weights are those of a model."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor

from diffgen.errors import UserError
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


def check_stored(folder: Path) -> None:
    """Look whether the weights in a saved DiT's folder are those of its ``config.json``.

    Raises:
        UserError: they are not, or a file is missing or damaged.
    """
    try:
        with torch.device("meta"):  # shapes alone
            model = DiT.from_config(DiT.load_config(folder))
        found = _stored_shapes(folder)
    except (
        OSError,
        SafetensorError,
        RuntimeError,
        ValueError,
        TypeError,
        ArithmeticError,
    ) as error:
        if isinstance(error, ValidationError):  # of the positional encoding
            reason = error.errors()[0]["msg"]
        else:
            reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"source: {folder} cannot be loaded: {reason}") from error
    wrong = misfit(shapes(model.state_dict()), found)
    if wrong:
        raise UserError(
            f"source: {folder} cannot be loaded: its weights are not those of its config.json, "
            f"{wrong}"
        )


def _stored_shapes(folder: Path) -> dict[str, Sequence[int]]:
    files = sorted(folder.glob("*.safetensors"))  # large models are saved in shards
    if not files:
        raise FileNotFoundError("it holds no weights (*.safetensors)")
    found: dict[str, Sequence[int]] = {}
    for file in files:
        with safe_open(file, "pt") as weights:
            names = weights.keys()
            found |= {name: weights.get_slice(name).get_shape() for name in names}
    return found

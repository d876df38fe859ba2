"""Weights a user brings: read without unpickling code, named by their digest."""

import hashlib
from pathlib import Path

from timm.models import load_state_dict
from torch import Tensor

from diffgen.errors import UserError


def read_weights(path: Path) -> dict[str, Tensor]:
    """The state dict in a safetensors or torch file; of a training checkpoint, its model's.

    Raises:
        UserError: there is no such file, or it holds something else or more than tensors.
    """
    try:
        state = load_state_dict(str(path), weights_only=True)
    except Exception as error:  # an arbitrary file can make torch raise anything
        raise UserError(f"weights: {path} is no readable checkpoint: {reason(error)}") from None
    if not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"weights: {path} holds no state dict: names with a tensor each")
    return state


def digest(path: Path) -> str:
    """sha256 of a file, as ``sha256sum`` prints it."""
    total = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            total.update(block)
    return total.hexdigest()


def mismatch(path: Path, extractor: str, error: Exception) -> UserError:
    """The complaint about weights of another network, which torch would not load."""
    return UserError(f"weights: {path} does not fit the extractor {extractor}: {reason(error)}")


def reason(error: Exception) -> str:
    """The first telling words of an exception; torch lists every key and suggests unsafe ways."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = " ".join(lines[:2]) or type(error).__name__
    return told if len(told) <= 240 else f"{told[:240]} ..."

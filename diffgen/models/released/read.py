"""Checkpoint files as state dicts, without running anything that is in them."""

import pickle
import re
from argparse import Namespace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from diffgen.errors import UserError

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")
# Where training scripts keep weights, the averaged ones first.
NESTED = ("ema", "model_ema", "ema_model", "state_dict", "model", "module")
ANCHORS = ("x_embedder.proj.weight", "pos_embed.proj.weight")


class Checkpoint(NamedTuple):
    """Weights, and the arguments they were trained with where the file holds them."""

    weights: dict[str, Tensor]
    args: dict[str, Any]


def read_checkpoint(path: Path, field: str = "source") -> Checkpoint:
    """Read a ``.safetensors`` file or a torch pickle (``.pt``, ``.pth``, ``.bin``).

    Of a training checkpoint the averaged weights are taken if it has them. Prefixes such as
    ``module.`` are stripped. Pickles are loaded by torch's restricted unpickler, which runs no
    code; the one class allowed beside tensors is argparse's Namespace, a bag of values.

    Raises:
        UserError: it is no such file, damaged, asks for code, or holds no named tensors.
    """
    if path.suffix not in SUFFIXES:
        raise UserError(f"{field}: {path} is none of {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise UserError(f"{field}: {path} does not exist")
    content = _load(path, field)
    args = content.get("args")
    for name in NESTED:
        if isinstance(content.get(name), dict) and content[name]:
            content = content[name]
            break
    named = (k for k, v in content.items() if not isinstance(v, Tensor) or not isinstance(k, str))
    odd = next(named, None)
    if odd is not None or not content:
        what = f"{odd!r} is no tensor" if content else "it is empty"
        raise UserError(f"{field}: {path} holds no state dict, {what}")
    weights = _without_prefix(content)
    args = vars(args) if isinstance(args, Namespace) else args
    return Checkpoint(weights, args if isinstance(args, dict) else {})


def _load(path: Path, field: str) -> dict[str, Any]:
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        with torch.serialization.safe_globals([Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (
        SafetensorError,
        pickle.UnpicklingError,
        RuntimeError,
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
        IndexError,
        EOFError,
        OSError,
    ) as error:
        raise UserError(f"{field}: {path} cannot be read: {_reason(error)}") from None
    if not isinstance(content, dict):
        raise UserError(f"{field}: {path} holds a {type(content).__name__}, not a state dict")
    return content


def _reason(error: Exception) -> str:
    text = str(error).strip()
    code = re.search(r"GLOBAL (\S+)", text) or re.search(r"Unsupported class (\S+)", text)
    if code:
        return f"its pickle asks for {code[1].rstrip('.')}, which is code and not run"
    if "weights_only" in text:  # torch's advice is to run it all the same
        return "it is no pickle of tensors alone, and nothing else is loaded"
    return text.splitlines()[0] if text else f"it is damaged ({type(error).__name__})"


def _without_prefix(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Strip what stands before the first layer's name from every name that has it."""
    for name in weights:
        for anchor in ANCHORS:
            if name.endswith(f".{anchor}"):
                prefix = name.removesuffix(anchor)
                return {key.removeprefix(prefix): value for key, value in weights.items()}
    return weights

"""Published checkpoints as diffgen models."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from diffgen.config.diffusers_dit import CLASSES
from diffgen.config.stored import read_json
from diffgen.errors import UserError
from diffgen.models.dit import DiT
from diffgen.models.fit import misfit, shapes
from diffgen.models.released.diffusers_dit import read_diffusers
from diffgen.models.released.layouts import Family, Read, read_dit, read_fit
from diffgen.models.released.read import read_checkpoint


def load_released(
    path: str | Path, num_heads: int | None = None, family: Family | None = None
) -> DiT:
    """Load a published checkpoint into diffgen's DiT; nothing in the file is run.

    Args:
        path: a ``.pt``, ``.bin`` or ``.safetensors`` of DiT, SiT, FiT or FiTv2, the folder of a
            diffusers DiTPipeline, or that of its transformer.
        num_heads: attention heads; None: those of the published model of this width.
        family: "dit" or "sit", whose files have the same names; None: told by the arguments a
            training checkpoint holds, or by the file's name.

    Returns:
        The model, fp32 on the CPU, with its conventions (prediction, time, guided channels) in
        ``model.config``.

    Raises:
        UserError: damaged, of another model, or asking for code; or heads or family are needed.
    """
    path = Path(path)
    try:
        if path.is_dir():
            if (path / "transformer").is_dir():
                path = path / "transformer"
            if num_heads is not None or family not in (None, "dit"):
                raise UserError("num_heads and family are not needed, the folder states them")
            return _build(read_diffusers(path))
        own = path.parent / "config.json"
        if path.is_file() and own.exists() and _class(own) in (*CLASSES, "DiT"):
            raise UserError(f"it belongs to a model's folder; give {path.parent} itself")
        return _build(_read_file(path, num_heads, family))
    except (IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"source: {path}: its weights do not fit together: {reason}") from error
    except UserError as error:
        message = str(error)
        named = message.startswith(("source:", "num_heads", "family"))
        raise UserError(message if named else f"source: {path}: {message}") from None


def _read_file(path: Path, heads: int | None, family: Family | None) -> Read:
    checkpoint = read_checkpoint(path)
    weights = checkpoint.weights
    fit = "blocks.0.mlp.fc1_g.weight" in weights
    if not fit and "blocks.0.mlp.fc1.weight" not in weights:
        raise UserError(
            f"it is none of DiT, SiT, FiT and FiTv2 (its first weight is {next(iter(weights))})"
        )
    if fit:
        found: Family = "fitv2" if "blocks.0.adaLN_modulation.2.weight" in weights else "fit"
        if family not in (None, found):
            raise UserError(f"family: {path} is {found}, not {family}")
        return read_fit(weights, heads)
    if family in ("fit", "fitv2"):
        raise UserError(f"family: {path} is dit or sit, not {family}")
    return read_dit(weights, heads, told_family(path, checkpoint.args, family))


def told_family(path: Path, args: Mapping[str, Any], given: Family | None) -> Family:
    """dit or sit: as ``given``, by the model's name among the training arguments, or the file's.

    Raises:
        UserError: nothing tells, it contradicts what is given, or it is a SiT trained on another
            path or prediction.
    """
    told = _named(str(args.get("model", "")))
    if told and given and told != given:
        raise UserError(f"family: {given} is given, but {path} was trained as {args['model']}")
    family = given or told or _named(path.stem)
    if family is None:
        raise UserError(
            f"family: DiT and SiT name their weights alike, and nothing in {path} tells which it "
            "is; give family dit or sit"
        )
    for key, wanted in (("path_type", "Linear"), ("prediction", "velocity")):
        if family == "sit" and args.get(key, wanted) != wanted:
            raise UserError(f"it was trained with {key} {args[key]}; known is {wanted}")
    return family


def _named(text: str) -> Family | None:
    """The one of the words dit and sit that stands in ``text``; None: neither, or both."""
    words = set(re.findall(r"(?<![a-z])(dit|sit)(?![a-z])", text.lower()))
    return words.pop() if len(words) == 1 else None


def _build(read: Read) -> DiT:
    try:
        with torch.device("meta"):
            model = DiT(**read.settings)
    except ValueError as error:
        raise UserError(str(error)) from None
    wrong = misfit(shapes(model.state_dict()), shapes(read.weights))
    if wrong:
        raise UserError(wrong)
    for name, tensor in read.weights.items():
        if not tensor.is_floating_point():
            raise UserError(f"{name} is {str(tensor.dtype).removeprefix('torch.')}, not floating")
        if not tensor.isfinite().all():
            raise UserError(f"{name} holds NaN or infinite values")
    weights = {name: tensor.float().contiguous() for name, tensor in read.weights.items()}
    model.load_state_dict(weights, assign=True)
    return model.eval()


def _class(path: Path) -> str:
    return str(read_json(path, "source", "").get("_class_name"))

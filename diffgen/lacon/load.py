"""Aligners on the disk, and the model each belongs to."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from diffgen.config.stored import read_json
from diffgen.errors import UserError
from diffgen.lacon.aligner import Aligner
from diffgen.lacon.conditions import Condition
from diffgen.models.dit import DiT


@torch.no_grad()
def fingerprint(model: DiT) -> str:
    """Tells a backbone from others: a digest of the shapes and checksums of all parameters.

    A checksum is the sum of all values' bits, and takes them as bf16 has them, so that a model is
    the same in both precisions and on every device.
    """
    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        bits = parameter.to(torch.bfloat16).view(torch.int16)
        checksum = int(bits.sum(dtype=torch.int64))
        digest.update(f"{name}{tuple(parameter.shape)}{checksum}".encode())
    return digest.hexdigest()


def load_aligner(
    folder: Path | str, model: DiT, field: str = "constraint", condition: Condition | None = None
) -> Aligner:
    """The aligner in ``folder``, on the device of ``model``, in fp32, its weights frozen.

    Args:
        folder: where ``train/lacon.py`` put it, ``RUN/aligners/NAME``.
        model: the backbone it was trained on.
        field: the option it was asked for by, for complaints.
        condition: what it is to read; None: whatever it reads.

    Raises:
        UserError: there is none, it is damaged, or it belongs to another model or condition.
    """
    place = Path(folder) / "aligner"
    missing = f"{folder} holds no aligner (no aligner/config.json)"
    if (Path(folder) / "checkpoints").exists():
        missing = f"{folder} holds an unfinished aligner; the same train/lacon.py command goes on"
    read_json(place / "config.json", field, missing)  # a damaged one diffusers seeks on the hub
    try:
        aligner, found = Aligner.from_pretrained(
            place, use_safetensors=True, output_loading_info=True
        )
    except (OSError, SafetensorError, RuntimeError, TypeError, ValueError, KeyError) as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UserError(f"{field}: {place} cannot be loaded: {reason}") from None
    for kind in ("missing_keys", "unexpected_keys"):
        if found[kind]:
            raise UserError(
                f"{field}: {place} cannot be loaded: its weights are not those of its config.json "
                f"({kind.replace('_', ' ')}: {', '.join(found[kind])})"
            )
    if aligner.config.backbone != fingerprint(model):
        raise UserError(
            f"{field}: {folder} is the aligner of another model, or of these weights at another "
            "time; train it again with train/lacon.py"
        )
    reads = (aligner.config.condition, aligner.config.channels)
    if condition is not None and reads != (condition.name, condition.channels):
        raise UserError(
            f"{field}: {folder} is an aligner of {reads[0]} of {reads[1]} channels, but "
            f"{condition.name} of {condition.channels} is asked for"
        )
    return aligner.requires_grad_(False).eval().to(model.device)


def ending(stated: Mapping[str, Any], asked: float | None, field: str, folder: Path) -> float:
    """The time a constraint by the aligner in ``folder`` ends at.

    Args:
        stated: the aligner's configuration.
        asked: by the option ``field``; None: the aligner's own.

    Raises:
        UserError: it has learnt nothing, or was not trained down to what is asked.
    """
    if asked is None:
        if stated["until"] >= 1:
            raise UserError(
                f"{field}: the aligner in {folder} has learnt nothing that could steer; give one "
                "to use it anyway"
            )
        return float(stated["until"])
    low = min(map(float, stated["r2"] or {}), default=0.0)
    if asked < low:
        raise UserError(
            f"{field}: {asked:g} is below {low:g}, the smallest time that the aligner in {folder} "
            "was trained at"
        )
    return asked

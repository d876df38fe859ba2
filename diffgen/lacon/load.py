"""Aligners on the disk, and the model each belongs to."""

import hashlib
from pathlib import Path

import torch
from safetensors import SafetensorError

from diffgen.errors import UserError
from diffgen.lacon.aligner import Aligner
from diffgen.models.dit import DiT

SAMPLED = 64


@torch.no_grad()
def fingerprint(model: DiT) -> str:
    """Tells a backbone from others: a digest of shapes and first values of all parameters.

    Values count as bf16 has them, so that a model is the same in both precisions.
    """
    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        first = parameter.flatten()[:SAMPLED].to("cpu", torch.bfloat16).view(torch.int16)
        digest.update(f"{name}{tuple(parameter.shape)}".encode() + first.numpy().tobytes())
    return digest.hexdigest()


def load_aligner(folder: Path | str, model: DiT, field: str = "constraint") -> Aligner:
    """The aligner in ``folder``, on the device of ``model``, in fp32, its weights frozen.

    Args:
        folder: where ``train/lacon.py`` put it, ``RUN/aligners/NAME``.
        model: the backbone it was trained on.
        field: the option it was asked for by, for complaints.

    Raises:
        UserError: there is none, it is damaged, or it belongs to another model.
    """
    place = Path(folder) / "aligner"
    if not (place / "config.json").exists():
        raise UserError(f"{field}: {folder} holds no aligner (no aligner/config.json)")
    try:
        aligner = Aligner.from_pretrained(place)
    except (OSError, SafetensorError, RuntimeError, TypeError, ValueError, KeyError) as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UserError(f"{field}: {place} cannot be loaded: {reason}") from None
    if aligner.config.backbone != fingerprint(model):
        raise UserError(
            f"{field}: {folder} is the aligner of another model, or of these weights at another "
            "time; train it again with train/lacon.py"
        )
    return aligner.requires_grad_(False).eval().to(model.device)

"""What is trained beside a frozen model, on the disk, and the model each belongs to."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import torch
from diffusers import ModelMixin
from diffusers.utils import logging
from safetensors import SafetensorError

from diffgen.config.stored import read_json
from diffgen.errors import UserError
from diffgen.models.dit import DiT

Beside = TypeVar("Beside", bound=ModelMixin)


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


@contextmanager
def silent() -> Iterator[None]:
    """Nothing that diffusers logs is shown: what goes wrong is told by a message of one's own."""
    before = logging.get_verbosity()
    logging.set_verbosity(logging.CRITICAL)
    try:
        yield
    finally:
        logging.set_verbosity(before)


def first_sentence(error: Exception) -> str:
    """What an error says, without the advice to programmers that follows in diffusers' errors."""
    lines = f"{type(error).__name__}: {error}".splitlines()
    return lines[0].split(". ")[0].rstrip(" .")


def damaged(field: str, place: Path, reason: str) -> UserError:
    """The complaint about the weights in ``place``."""
    advice = "it is damaged: train it again, or copy it anew"
    return UserError(f"{field}: {place} cannot be loaded: {reason}; {advice}")


def load_beside(
    kind: type[Beside], folder: Path | str, model: DiT, field: str, what: str, script: str
) -> Beside:
    """What ``script`` trained beside ``model``, on its device, in fp32, its weights frozen.

    Args:
        kind: its class; its configuration names its ``backbone`` by ``fingerprint``.
        folder: where the script put it; the weights lie in its folder called ``what``.
        model: the one it was trained on.
        field: the option it was asked for by, for complaints.
        what: "aligner" or "adapter".
        script: that trained it, for complaints.

    Raises:
        UserError: there is none, it is damaged, or it belongs to another model.
    """
    place = Path(folder) / what
    missing = f"{folder} holds no {what} (no {what}/config.json)"
    if (Path(folder) / "checkpoints").exists():
        missing = f"{folder} holds an unfinished {what}; the same {script} command goes on"
    read_json(place / "config.json", field, missing)  # a damaged one diffusers seeks on the hub
    try:
        with silent():
            found, report = kind.from_pretrained(
                place, use_safetensors=True, output_loading_info=True
            )
    except (OSError, SafetensorError, RuntimeError, TypeError, ValueError, KeyError) as error:
        raise damaged(field, place, first_sentence(error).replace(f"{place}/", "")) from None
    for keys in ("missing_keys", "unexpected_keys"):
        if report[keys]:
            first, more = report[keys][0], len(report[keys]) - 1
            others = f" and {more} more" if more else ""
            reason = "its weights are not those of its config.json"
            raise damaged(field, place, f"{reason} ({keys.replace('_', ' ')}: {first}{others})")
    if found.config.backbone != fingerprint(model):
        raise UserError(
            f"{field}: {folder} is the {what} of another model, or of these weights at another "
            f"time; train it again with {script}"
        )
    return found.requires_grad_(False).eval().to(model.device)

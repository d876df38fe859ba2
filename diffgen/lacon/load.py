"""Aligners on the disk."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffgen.errors import UserError
from diffgen.lacon.aligner import Aligner
from diffgen.lacon.conditions import Condition
from diffgen.models.beside import load_beside
from diffgen.models.dit import DiT


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
    aligner = load_beside(Aligner, folder, model, field, "aligner", "train/lacon.py")
    reads = (aligner.config.condition, aligner.config.channels)
    if condition is not None and reads != (condition.name, condition.channels):
        raise UserError(
            f"{field}: {folder} is an aligner of {reads[0]} of {reads[1]} channels, but "
            f"{condition.name} of {condition.channels} is asked for"
        )
    return aligner


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

"""Adapters on the disk, each with the condition it was trained for."""

from pathlib import Path

from diffgen.errors import UserError
from diffgen.joint.adapter import JointAdapter
from diffgen.joint.pairs import OUTLINE
from diffgen.lacon.conditions import COLOUR_ERROR, CONDITIONS, DEPTH_ERROR, Condition
from diffgen.models.beside import load_beside
from diffgen.models.dit import DiT


def load_adapter(
    folder: Path | str, model: DiT, field: str = "given", condition: str | None = None
) -> tuple[JointAdapter, Condition]:
    """The adapter in ``folder``, on the device of ``model``, in fp32, and its condition.

    Args:
        folder: where ``train/joint.py`` put it, ``RUN/joint/NAME``.
        model: the one it was trained on.
        field: the option it was asked for by, for complaints.
        condition: the name it is to have been trained for; None: any.

    Raises:
        UserError: there is none, it is damaged, or it belongs to another model or condition.
    """
    adapter = load_beside(JointAdapter, folder, model, field, "adapter", "train/joint.py")
    stated = adapter.config.condition
    if condition not in (None, stated):
        raise UserError(
            f"{field}: {folder} is an adapter of {stated}, but {condition} is asked for"
        )
    try:
        return adapter, condition_of(adapter)
    except ValueError as error:
        raise UserError(f"{field}: {folder} cannot be loaded: {error}") from None


def condition_of(adapter: JointAdapter) -> Condition:
    """The condition an adapter was trained for.

    One of diffgen's, or one that tells the adapter's maps alone and cannot be found in pictures.

    Raises:
        ValueError: the adapter's configuration states none that can be.
    """
    stated = adapter.config
    for known in (*CONDITIONS, OUTLINE):
        facts = (known.name, known.channels, known.binary)
        if facts == (stated.condition, stated.channels, stated.binary):
            return known
    fidelity = COLOUR_ERROR if stated.channels == 3 else DEPTH_ERROR
    return Condition(stated.condition, stated.channels, stated.binary, None, fidelity)

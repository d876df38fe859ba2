"""Adapters on the disk, each with the condition it was trained for."""

from pathlib import Path

from diffgen.joint.adapter import JointAdapter
from diffgen.joint.pairs import OUTLINE
from diffgen.lacon.conditions import COLOUR_ERROR, CONDITIONS, DEPTH_ERROR, Condition
from diffgen.models.beside import load_beside
from diffgen.models.dit import DiT


def load_adapter(
    folder: Path | str, model: DiT, field: str = "given"
) -> tuple[JointAdapter, Condition]:
    """The adapter in ``folder``, on the device of ``model``, in fp32, and its condition.

    Args:
        folder: where ``train/joint.py`` put it, ``RUN/joint/NAME``.
        model: the one it was trained on.
        field: the option it was asked for by, for complaints.

    Raises:
        UserError: there is none, it is damaged, or it belongs to another model.
    """
    adapter = load_beside(JointAdapter, folder, model, field, "adapter", "train/joint.py")
    return adapter, condition_of(adapter)


def condition_of(adapter: JointAdapter) -> Condition:
    """The condition an adapter was trained for.

    One of diffgen's, or one that tells the adapter's maps alone and cannot be found in pictures.
    """
    stated = adapter.config
    for known in (*CONDITIONS, OUTLINE):
        if (known.name, known.channels) == (stated.condition, stated.channels):
            return known
    fidelity = COLOUR_ERROR if stated.channels == 3 else DEPTH_ERROR
    return Condition(stated.condition, stated.channels, stated.binary, None, fidelity)

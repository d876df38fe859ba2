"""Adapters on the disk, each with the condition it was trained for."""

from pathlib import Path

from diffgen.errors import UserError
from diffgen.joint.adapter import JointAdapter
from diffgen.joint.pairs import OUTLINE
from diffgen.lacon.conditions import (
    COLOUR_ERROR,
    CONDITIONS,
    DEPTH_ERROR,
    EDGE_F1,
    Condition,
    strongest,
)
from diffgen.models.beside import load_beside
from diffgen.models.dit import DiT


def load_adapter(
    folder: Path | str,
    model: DiT,
    field: str = "given",
    condition: str | Condition | None = None,
) -> tuple[JointAdapter, Condition]:
    """The adapter in ``folder``, on the device of ``model``, in fp32, and its condition.

    Args:
        folder: where ``train/joint.py`` put it, ``RUN/joint/NAME``.
        model: the one it was trained on.
        field: the option it was asked for by, for complaints.
        condition: it is to have been trained for, by its name, or itself, which is then returned,
            as it must be for a user's own to be found in pictures; None: any.

    Raises:
        UserError: there is none, it is damaged, or it belongs to another model or condition.
    """
    place = Path(folder)
    if not (place / "adapter").exists() and (place.parent / "adapter" / "config.json").is_file():
        raise UserError(
            f"{field}: {place.parent} is an adapter itself; give its parent folder, "
            f"{place.parent.parent}"
        )
    adapter = load_beside(JointAdapter, folder, model, field, "adapter", "train/joint.py")
    stated = adapter.config.condition
    asked = condition.name if isinstance(condition, Condition) else condition
    if asked not in (None, stated):
        advice = f"; rename the folder to {stated}" if place.name != stated else ""
        raise UserError(
            f"{field}: {folder} is an adapter of {stated}, but {asked} is asked for{advice}"
        )
    if isinstance(condition, Condition):
        if not tells(adapter, condition):
            raise UserError(
                f"{field}: {folder} is an adapter of {stated} with other maps (channels "
                f"{adapter.config.channels}, binary {adapter.config.binary}), not channels "
                f"{condition.channels}, binary {condition.binary}"
            )
        return adapter, condition
    try:
        return adapter, condition_of(adapter)
    except ValueError as error:
        raise UserError(f"{field}: {folder} cannot be loaded: {error}") from None


def condition_of(adapter: JointAdapter) -> Condition:
    """The condition an adapter was trained for.

    One of diffgen's, or one that tells the adapter's maps alone and cannot be found in pictures;
    binary maps are taken for lines, as most are, and made smaller by their maxima.

    Raises:
        ValueError: the adapter's configuration states none that can be.
    """
    stated = adapter.config
    for known in (*CONDITIONS, OUTLINE):
        if tells(adapter, known):
            return known
    told = (stated.condition, stated.channels, stated.binary, None)
    if stated.binary:
        return Condition(*told, EDGE_F1, shrink=strongest)
    return Condition(*told, COLOUR_ERROR if stated.channels == 3 else DEPTH_ERROR)


def tells(adapter: JointAdapter, condition: Condition) -> bool:
    """Whether ``adapter`` was trained for maps of the name and kind of ``condition``."""
    stated = adapter.config
    facts = (condition.name, condition.channels, condition.binary)
    return facts == (stated.condition, stated.channels, stated.binary)

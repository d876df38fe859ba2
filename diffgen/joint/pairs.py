"""What images are paired with: maps as LaCon knows them, outlines, or pictures in a folder."""

from dataclasses import replace

from torch import Tensor

from diffgen.config.joint_given import IMAGE
from diffgen.data.pixels import NOTICED
from diffgen.errors import UserError
from diffgen.joint.maps import from_picture
from diffgen.lacon.conditions import COLOUR_ERROR, EDGE_F1, Condition, strongest
from diffgen.lacon.named import condition_named

OUTLINE = Condition("outline", 1, True, None, EDGE_F1, stored="edge", shrink=strongest)
"""The exact visible outlines of the objects, antialiased, which only drawn data has."""


def folder_pair(name: str) -> Condition:
    """Pictures that ``PairedImages`` bring; ``name`` in commands."""
    return Condition(name, 3, False, None, COLOUR_ERROR, stored="pair")


def read_from_files(condition: Condition) -> Condition:
    """``condition`` whose maps ``PairedImages`` bring as pictures."""

    def from_stored(pictures: Tensor) -> Tensor:
        apart = float((pictures.amax(dim=1) - pictures.amin(dim=1)).max()) * 127.5
        if condition.channels == 1 and apart > NOTICED:
            raise UserError(
                f"pair_path: a map of {condition.name} is to be grey, but one of the pictures is "
                f"coloured (its channels differ by up to {apart:.0f} levels)"
            )
        return from_picture(pictures, condition)

    return replace(condition, stored="pair", from_stored=from_stored)


def pair_named(name: str) -> Condition:
    """OUTLINE, or what ``condition_named`` knows.

    Raises:
        UserError: as there; or a user's own is called as something of joint generation is.
    """
    if name == OUTLINE.name:
        return OUTLINE
    found = condition_named(name, "pair")
    if found.name in (IMAGE, OUTLINE.name):
        raise UserError(
            f"pair: {name} is called {found.name!r}, which means something else here; give it a "
            "name of its own"
        )
    return found

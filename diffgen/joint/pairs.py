"""What images are paired with: maps as LaCon knows them, outlines, or pictures in a folder."""

from diffgen.config.joint_given import IMAGE
from diffgen.errors import UserError
from diffgen.lacon.conditions import COLOUR_ERROR, EDGE_F1, Condition, strongest
from diffgen.lacon.named import condition_named

OUTLINE = Condition("outline", 1, True, None, EDGE_F1, stored="edge", shrink=strongest)
"""The exact visible outlines of the objects, antialiased, which only drawn data has."""


def folder_pair(name: str) -> Condition:
    """Pictures that ``PairedImages`` bring; ``name`` in commands."""
    return Condition(name, 3, False, None, COLOUR_ERROR, stored="pair")


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

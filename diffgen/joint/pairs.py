"""What images are paired with: maps as LaCon knows them, outlines, or pictures in a folder."""

from dataclasses import replace
from functools import partial

from diffgen.config.joint import CHANNELS_SUFFIX
from diffgen.config.joint_given import IMAGE
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
    read = partial(from_picture, condition=condition)
    return replace(condition, stored="pair", from_stored=read)


def pair_named(name: str) -> Condition:
    """OUTLINE, or what ``condition_named`` knows.

    Raises:
        UserError: as there; or a user's own is called as something of joint generation is, or
            ends as the folders of method channels do.
    """
    if name == OUTLINE.name:
        return OUTLINE
    found = condition_named(name, "pair")
    if found.name in (IMAGE, OUTLINE.name):
        raise UserError(
            f"pair: {name} is called {found.name!r}, which means something else here; give it a "
            "name of its own"
        )
    if found.name.endswith(CHANNELS_SUFFIX):
        raise UserError(
            f"pair: {name} is called {found.name!r}, but folders of method channels end in "
            f"{CHANNELS_SUFFIX}; give it another name"
        )
    return found

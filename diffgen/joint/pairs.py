"""What images are paired with: maps as LaCon knows them, outlines, or pictures in a folder."""

from diffgen.lacon.conditions import COLOUR_ERROR, EDGE_F1, Condition, strongest

OUTLINE = Condition("outline", 1, True, None, EDGE_F1, stored="edge", shrink=strongest)
"""The exact visible outlines of the objects, antialiased, which only drawn data has."""


def folder_pair(name: str) -> Condition:
    """Pictures that ``PairedImages`` bring; ``name`` in commands."""
    return Condition(name, 3, False, None, COLOUR_ERROR, stored="pair")

"""Conditions by name: those diffgen brings, and a user's own from an importable module."""

import os
import re
import sys
from importlib import import_module

from diffgen.errors import UserError
from diffgen.lacon.conditions import CONDITIONS, Condition


def condition_named(name: str, field: str = "condition") -> Condition:
    """A condition of diffgen, or ``MODULE:NAME``, a Condition in a module that can be imported.

    Raises:
        UserError: there is none of that name; ``field`` names the option.
    """
    for known in CONDITIONS:
        if known.name == name:
            return known
    module, _, attribute = name.partition(":")
    if not attribute:
        names = ", ".join(known.name for known in CONDITIONS)
        raise UserError(
            f"{field}: {name!r} is unknown; known are {names}, or give MODULE:NAME of your own"
        )
    if os.getcwd() not in sys.path:  # a script's own folder is there, the user's is not
        sys.path.append(os.getcwd())
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise UserError(f"{field}: {name}: {error}") from None
    if not isinstance(found, Condition):
        raise UserError(f"{field}: {name} is a {type(found).__name__}, no Condition")
    return found


def folder_name(name: str) -> str:
    """A condition's name, fit for a folder."""
    return re.sub(r"[^\w-]+", ".", name)

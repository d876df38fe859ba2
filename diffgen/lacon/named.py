"""Conditions by name: those diffgen brings, and a user's own from an importable module."""

import os
import sys
from importlib import import_module

from diffgen.errors import UserError
from diffgen.lacon.conditions import CONDITIONS, Condition


def condition_named(name: str, field: str = "condition") -> Condition:
    """A condition of diffgen, or ``MODULE:NAME``, a Condition in a module that can be imported.

    Raises:
        UserError: there is none of that name, its module fails, or it is called like one of
            diffgen's; ``field`` names the option.
    """
    known = {condition.name: condition for condition in CONDITIONS}
    if name in known:
        return known[name]
    module, _, attribute = name.partition(":")
    if not attribute:
        raise UserError(
            f"{field}: {name!r} is unknown; known are {', '.join(known)}, or give MODULE:NAME of "
            "your own"
        )
    if os.getcwd() not in sys.path:  # a script's own folder is there, the user's is not
        sys.path.append(os.getcwd())
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise UserError(f"{field}: {name}: {error}") from None
    except Exception as error:  # a module of the user's may raise anything
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UserError(f"{field}: {name}: {reason}") from error
    if not isinstance(found, Condition):
        raise UserError(f"{field}: {name} is a {type(found).__name__}, no Condition")
    if found.name in known and found is not known[found.name]:
        raise UserError(
            f"{field}: {name} is called {found.name!r}, as one of diffgen's is; give it a name of "
            "its own"
        )
    return found

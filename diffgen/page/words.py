"""Values of settings in words."""

from collections.abc import Iterator, Mapping
from typing import Any


def told(value: Any) -> str:
    """One value as a table shows it: none, yes, no, and lists with commas."""
    match value:
        case None:
            return "none"
        case bool():
            return "yes" if value else "no"
        case list() | tuple():
            return ", ".join(map(told, value)) or "none"
        case _:
            return str(value)


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested mappings as dotted names with their values; those in lists are numbered."""
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from flat(value, f"{name}.")
        elif isinstance(value, list | tuple) and any(isinstance(one, Mapping) for one in value):
            numbered = {f"{name}[{number}]": one for number, one in enumerate(value)}
            yield from flat(numbered, prefix="")
        else:
            yield name, value

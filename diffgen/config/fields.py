"""Every field of a configuration by its dotted name, for ``--help`` and for spelling mistakes."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from diffgen.config.base import Section


@dataclass(frozen=True)
class Field:
    """One field as one kind of its section has it."""

    name: str
    """Dotted, with underscores."""
    description: str
    default: str
    kind: str | None
    """The section's kind it belongs to; None: the section has no kinds."""


def fields(schema: type[Section], prefix: str = "", kind: str | None = None) -> Iterator[Field]:
    """Every field below ``schema``, that of every kind."""
    for key, info in schema.model_fields.items():
        name = f"{prefix}{key}"
        members = list(sections(info))
        if not members:
            yield Field(name, info.description or "", _default(info), kind)
        for member in members:
            own = member.model_fields["kind"].default if len(members) > 1 else kind
            for field in fields(member, f"{name}.", own):
                if field.name == f"{name}.kind":  # the section's default decides, not the kind's
                    field = Field(field.name, field.description, info.default.kind, None)
                yield field


def sections(info: FieldInfo) -> Iterator[type[Section]]:
    """The sections a field may hold: several for a field whose kind picks one."""
    pending: list[Any] = [info.annotation]
    while pending:
        annotation = pending.pop(0)
        if isinstance(annotation, type) and issubclass(annotation, Section):
            yield annotation
        elif get_origin(annotation) is Annotated:
            pending.append(get_args(annotation)[0])
        elif get_origin(annotation) in (Union, type(int | str)):
            pending += get_args(annotation)


def help_texts(schema: type[Section]) -> dict[str, str]:
    """Dotted name -> description, the kinds it belongs to, and its default."""
    by_name: dict[str, list[Field]] = {}
    for field in fields(schema):
        by_name.setdefault(field.name, []).append(field)
    return {name: _help(same) for name, same in by_name.items()}


def _help(same: list[Field]) -> str:
    kinds = [field.kind for field in same if field.kind]
    only = f" Only for kind {' or '.join(kinds)}." if kinds and len(kinds) == 1 else ""
    defaults = list(dict.fromkeys(field.default for field in same))
    if len(defaults) == 1:
        default = defaults[0]
    else:
        default = ", ".join(f"{field.default} for {field.kind}" for field in same)
    return f"{_described(same)}{only} (default: {default})"


def _described(same: list[Field]) -> str:
    """What the kinds say of a field; most say the same."""
    by_text: dict[str, list[str]] = {}
    for field in same:
        by_text.setdefault(field.description, []).append(field.kind or "")
    first, *others = by_text.items()
    return first[0] + "".join(f" Kind {' and '.join(k)}: {text}" for text, k in others)


def _default(info: FieldInfo) -> str:
    if info.default is PydanticUndefined:
        return "none, must be given"
    if info.default is None or info.default == []:
        return "none"
    return str(info.default)

"""Reading a claim's document, and whether its intervals and verdicts follow from its values."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from diffgen.errors import UserError
from diffgen.evidence.document import Evidence

TOLERANCE = 1e-6
"""Of an interval's ends, relative to the larger of the two."""


def read_evidence(path: Path | str) -> Evidence:
    """The document in ``path`` as it stands, with the verdicts it states.

    Raises:
        UserError: it cannot be read or is not of the schema; every wrong field is named.
    """
    try:
        evidence = Evidence.model_validate_json(Path(path).read_text("utf-8"), strict=True)
    except ValidationError as error:
        mistakes = [_sentence(detail) for detail in error.errors()]
        raise UserError("\n".join(f"{path}: {line}" for line in mistakes)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from None
    if "schema_" not in evidence.model_fields_set:
        raise UserError(f"{path}: schema: is needed, {evidence.schema_!r}")
    return evidence


def check_evidence(path: Path | str) -> list[str]:
    """What is wrong with the document in ``path``, a line a field; empty if nothing is.

    Its fields must be of the schema, and its intervals (to 1e-6) and verdicts those that its
    values give.
    """
    try:
        stated = read_evidence(path)
    except UserError as error:
        return str(error).split("\n")
    due = stated.judged()
    problems = []
    for i, (one, computed) in enumerate(zip(stated.comparisons, due.comparisons, strict=True)):
        for line in _differences(one.model_dump(), computed.model_dump(), f"comparisons[{i}]"):
            problems.append(f"{path}: {line} ({one.name}, {one.figure})")
    if stated.verdict != due.verdict:
        problems.append(f"{path}: {_unlike('verdict', stated.verdict, due.verdict)}")
    return problems


def _differences(stated: Any, due: Any, place: str) -> Iterator[str]:
    """Where the two depart; only intervals and verdicts can."""
    if isinstance(due, dict):
        for name in due:
            yield from _differences(stated[name], due[name], f"{place}.{name}")
    elif isinstance(due, tuple) and isinstance(stated, tuple):  # intervals; values are lists
        allowed = TOLERANCE * max(map(abs, due))
        if any(abs(a - b) > allowed for a, b in zip(stated, due, strict=True)):
            yield _unlike(place, list(stated), list(due))
    elif stated != due:
        yield _unlike(place, stated, due)


def _unlike(place: str, stated: object, due: object) -> str:
    return f"{place}: {stated!r} does not follow; the values give {due!r}"


def _sentence(detail: ErrorDetails) -> str:
    """``comparisons[2].this: input should be a valid list``."""
    place = ""
    for depth, part in enumerate(detail["loc"]):
        if detail["loc"][0] == "comparisons" and depth == 2:
            continue  # the kind, which is no field
        place += f"[{part}]" if isinstance(part, int) else f".{part}" if place else part
    if detail["type"] == "missing":
        return f"{place}: is needed"
    if detail["type"] == "extra_forbidden":
        return f"{place}: unknown field"
    message = detail["msg"].removeprefix("Value error, ")
    message = f"{message[0].lower()}{message[1:]}"
    given = detail["input"]
    if not place:  # no JSON, or a mistake across fields, which names them itself
        return message
    got = f" (got {given!r})" if isinstance(given, str | int | float) else ""
    return f"{place}: {message}{got}"

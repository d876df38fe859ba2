"""Finished sweeps of other models, which a claim is about too."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from diffgen.errors import UserError
from diffgen.training.run_folder import flatten

Sweep = Mapping[str, Any]
"""What a sweep.json holds."""
FREE = ("source", "aligners", "out", "pictures", "evidence", "also", "device")
"""Settings that may differ between sweeps of two models."""


def with_others(sweep: dict[str, Any], folders: list[Path]) -> list[Sweep]:
    """``sweep``, and those in ``folders``.

    Raises:
        UserError: one cannot be read, has other settings, or is of a model that is there already.
    """
    # As JSON holds it: tuples are lists there.
    sweeps: list[Sweep] = [json.loads(json.dumps(sweep))]
    for folder in folders:
        other = read_sweep(folder / "sweep.json", str(sweep["schema"]))
        for line in differing(sweeps[0], other):
            raise UserError(f"also: {folder} is of other settings: {line}")
        for there in sweeps:
            if there["weights"] == other["weights"]:
                raise UserError(
                    f"also: {folder} is of the same model as {there['settings']['out']}"
                )
        sweeps.append(other)
    return sweeps


def read_sweep(file: Path, schema: str) -> Sweep:
    """The sweep in ``file``.

    Raises:
        UserError: it cannot be read, or is none of this schema.
    """
    try:
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"also: {file} cannot be read: {error}") from None
    if not isinstance(content, dict) or content.get("schema") != schema:
        raise UserError(f"also: {file} is no sweep of schema {schema}")
    return content


def differing(this: Sweep, other: Sweep) -> Iterator[str]:
    """A line for each setting that would make figures of two sweeps unlike."""
    both = [shared_settings(one) for one in (this, other)]
    for name in sorted(both[0].keys() | both[1].keys()):
        here, there = (settings.get(name) for settings in both)
        if here != there:
            yield f"{name} is {there} there, {here} here"


def shared_settings(sweep: Sweep) -> dict[str, Any]:
    """All that decides the figures, but for the model; by dotted names."""
    settings = {name: value for name, value in sweep["settings"].items() if name not in FREE}
    return {**flatten(settings), "size": sweep["size"]}

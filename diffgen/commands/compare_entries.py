"""Saved evaluations as entries of a comparison: what must agree, and what tells them apart."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffgen.commands.saved_scores import DEFAULTS, FREE, FREE_OF_DATA
from diffgen.config.guidance import with_guidance
from diffgen.config.sampling import SamplingConfig
from diffgen.errors import UserError
from diffgen.page.words import flat, told

SCHEMA = "diffgen-evaluation/2"
RULES = ("k", "density_k", "rule", "manifold_images", "splits")
DRAWING = (*(name for name in SamplingConfig.model_fields if name not in FREE), "dtype")


@dataclass(frozen=True)
class Entry:
    """What one network's features gave in one evaluation."""

    file: Path
    seed: int | None
    """Of the drawn images; None: they were not drawn."""
    common: Mapping[str, str]
    """What must agree before figures stand in one column, in words, by name."""
    own: Mapping[str, str]
    """What was scored and, but for the seed, how it was drawn, in words, by name."""
    scores: Mapping[str, float | None]
    intervals: Mapping[str, tuple[float, float] | None]
    floor: Mapping[str, float | None]
    """Scores of real images against real images; empty: there is no floor."""


def read_entries(file: Path) -> list[Entry]:
    """The entries of a saved evaluation, one a network.

    Raises:
        UserError: it cannot be read, or holds something else or an older evaluation.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"files: {file} is no evaluation, it cannot be read: {error}") from None
    schema = content.get("schema") if isinstance(content, dict) else None
    if schema == "diffgen-evaluation/1":
        raise UserError(
            f"files: {file} is an older evaluation ({schema}), whose figures follow other "
            f"conventions; evaluate again, which writes {SCHEMA}"
        )
    if schema != SCHEMA:
        raise UserError(f"files: {file} is no evaluation: its schema is {schema}, not {SCHEMA}")
    try:
        return list(_entries(file, content))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"files: {file} is a damaged evaluation: {error!r}") from None


def _entries(file: Path, content: dict[str, Any]) -> Iterator[Entry]:
    settings = {**DEFAULTS, **with_guidance(content["settings"])}
    shared, own = _shared(content, settings), _own(content, settings)
    for one in (content, *content["further"]):
        facts = {name: value for name, value in one["extractor"].items() if name != "title"}
        yield Entry(
            file,
            int(settings["seed"]) if content["weights"] else None,
            _words({**shared, "extractor": facts, "against": one["against"]}),
            own,
            _scores(one["scores"]),
            {name: _interval(name, ends) for name, ends in one["intervals"].items()},
            _scores(one["floor"]["scores"]) if one["floor"] else {},
        )


def _shared(content: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """What must agree, whatever the network."""
    data, colour = content["reference_data"] or {}, content["reference_colour"] or {}
    return {
        "profile": content["profile"],
        "size": content["size"],
        "images": content["counts"]["images"],
        "real images": content["counts"]["reference"],
        "reference": content["places"]["reference"],
        "reference data": {k: v for k, v in data.items() if k not in FREE_OF_DATA},
        # A folder may have changed under its name: its colours tell it.
        "reference colour": {name: f"{value:.5g}" for name, value in colour.items()},
        "damaged real images": content["left_out"]["reference"],
        "labels": content["labels"],
        **{name: settings[name] for name in RULES},
        "quantisation": content["quantisation"],
        "conventions": content["conventions"],
    }


def _own(content: dict[str, Any], settings: dict[str, Any]) -> dict[str, str]:
    """What tells one row from another; stored pictures have no settings of drawing."""
    own = {"source": content["places"]["source"]}
    if content["weights"]:
        own |= {
            "weights": content["weights"],
            "vae": content["places"]["vae"],
            "guide": content["guide_weights"],
            "ema": settings.get("ema"),
            **{name: settings[name] for name in DRAWING},
        }
    return _words(own)


def _scores(scores: Mapping[str, Any]) -> dict[str, float | None]:
    return {name: None if value is None else float(value) for name, value in scores.items()}


def _interval(name: str, ends: Any) -> tuple[float, float] | None:
    if ends is None:
        return None
    low, high = map(float, ends)
    if low > high:
        raise ValueError(f"the interval of {name} is {low} to {high}")
    return low, high


def _words(values: Mapping[str, Any]) -> dict[str, str]:
    return {name: told(value) for name, value in flat(values)}

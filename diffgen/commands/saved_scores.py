"""Which file the scores of an evaluation go to: none of other settings is overwritten."""

import json
from contextlib import ExitStack, suppress
from itertools import count
from pathlib import Path
from typing import Any

from diffgen.config.evaluate import DRAWN, EvaluateConfig
from diffgen.config.guidance import with_guidance
from diffgen.errors import UserError
from diffgen.files import locked, write_json

# Settings that leave the figures as they are, or of which other fields tell more.
FREE = ("out", "save", "report", "device", "batch_size", "decode_batch_size", "on_error")
DEFAULTS = EvaluateConfig(source="").model_dump(mode="json")
TOLD_ELSEWHERE = ("source", "reference", "vae", "weights", "size")
FREE_OF_DATA = ("crop", "crop_scale", "crop_share", "flip", "on_error")


def save(content: dict[str, Any], out: Path | None, target: Path) -> Path:
    """Write the scores to ``out``, or where ``free_place`` says; returns the file."""
    if out is not None:
        write_json(out, content)
        return out
    with ExitStack() as lock:
        with suppress(UserError):  # another person's; an evaluation is not lost for that
            lock.enter_context(locked(target.parent, ".evaluations.lock", wait=True))
        place = free_place(target, content)  # two evaluations may end at once
        write_json(place, content)
    return place


def free_place(target: Path, content: dict[str, Any]) -> Path:
    """``target``, or NAME-2.json, NAME-3.json ...: the first that is free or of the same settings.

    So a model that was trained on replaces its older figures, and another guidance scale, or
    another folder of the same name, has a file of its own.
    """
    wanted = deciding(json.loads(json.dumps(content)))
    more = (target.with_stem(f"{target.stem}-{number}") for number in count(2))
    place = target
    while place.exists() and _settings_in(place) != wanted:
        place = next(more)
    return place


def deciding(content: dict[str, Any]) -> dict[str, Any]:
    """What decides the figures of a model or of pictures."""
    data, where = content["reference_data"] or {}, dict(content["places"])
    stated = {**DEFAULTS, **with_guidance(content["settings"])}  # older files lack newer settings
    if content["beside"]:  # a folder may be moved, and its figures with it
        del where["source"]
    return {
        **{k: v for k, v in stated.items() if k not in FREE + TOLD_ELSEWHERE},
        "size": content["size"],
        "places": where,
        "reference_data": {k: v for k, v in data.items() if k not in FREE_OF_DATA},
    }


def places(config: EvaluateConfig) -> dict[str, str | None]:
    """Where everything came from, as paths that hold wherever one stands."""
    reference = config.reference
    return {
        "source": absolute(config.source),
        "reference": reference if reference in DRAWN else absolute(reference),
        "vae": absolute(config.vae) if config.vae else None,
        "weights": absolute(str(config.weights)) if config.weights else None,
    }


def absolute(place: str) -> str:
    """A path that exists as a whole one; names of other things unchanged."""
    return str(Path(place).resolve()) if Path(place).exists() else place


def _settings_in(file: Path) -> dict[str, Any] | None:
    try:
        return deciding(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None

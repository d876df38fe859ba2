"""Which file the scores of an evaluation go to: none of other settings is overwritten."""

import json
from itertools import count
from pathlib import Path
from typing import Any

# Settings that leave the figures as they are, or of which other fields tell more.
FREE = ("out", "device", "batch_size", "decode_batch_size", "decode_tiled")
TOLD_ELSEWHERE = ("source", "reference", "size")


def free_place(target: Path, content: dict[str, Any]) -> Path:
    """``target``, or NAME-2.json, NAME-3.json ...: the first that is free or of the same settings.

    So a model that was trained on replaces its older figures, and another guidance scale, or
    another folder of the same name, has a file of its own.
    """
    wanted = deciding(json.loads(json.dumps(content)))
    for number in count(1):
        place = target if number == 1 else target.with_stem(f"{target.stem}-{number}")
        if not place.exists() or _settings_in(place) == wanted:
            return place
    raise AssertionError("never reached")


def deciding(content: dict[str, Any]) -> dict[str, Any]:
    """What decides the figures of a model or of pictures."""
    passed_over = FREE + TOLD_ELSEWHERE
    settings = {name: v for name, v in content["settings"].items() if name not in passed_over}
    return settings | {name: content.get(name) for name in ("size", "places", "reference_data")}


def absolute(place: str) -> str:
    """A path as it is wherever one stands; names of other things unchanged."""
    return str(Path(place).absolute()) if Path(place).exists() else place


def _settings_in(file: Path) -> dict[str, Any] | None:
    try:
        return deciding(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None

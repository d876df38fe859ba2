"""Reading stored models' JSON, from a folder or the hub, without torch."""

import json
from pathlib import Path
from typing import Any

from diffgen.errors import UserError

EVERYTHING = ["*.json", "*.safetensors", "**/*.json", "**/*.safetensors"]


def read_json(path: Path, field: str, missing: str) -> dict[str, Any]:
    """The JSON object in ``path``.

    Raises:
        UserError: there is no such file (``field: missing``), or it holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{field}: {missing}") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{field}: {path} cannot be read: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{field}: {path} is not a JSON object")
    return content


def from_hub(
    source: str, field: str, allowed: str, patterns: list[str], options: dict[str, Any]
) -> Path:
    """Download the files of ``source`` that match ``patterns``; the folder they lie in.

    Args:
        source: hub id.
        field: option it was given by, for complaints.
        allowed: what else the option takes, for complaints.
        patterns: shell patterns of file names.
        options: for huggingface_hub: revision, token ...

    Raises:
        UserError: it is no hub id, or the hub did not give it.
    """
    if source.count("/") != 1 or source.startswith((".", "/", "~")):
        raise UserError(f"{field}: {source} does not exist; give {allowed}")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(source, allow_patterns=patterns, **options))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"{field}: no folder {source} here, and the hub did not give it: {reason}"
        ) from None

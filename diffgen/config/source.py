"""SOURCE arguments: a run folder, a pipeline folder or a hub id, read without torch."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffgen.config.process import ProcessConfig, process_of
from diffgen.errors import UserError


@dataclass(frozen=True)
class Source:
    """What a command must know of a model before it loads torch."""

    pipeline: Path
    """The diffusers folder."""
    run: Path | None
    """The run folder it came from, if it did."""
    patch_size: int
    num_classes: int
    """0: unconditional."""
    class_names: tuple[str, ...]
    sample_size: tuple[int, int]
    """Height x width it was trained at [pixels]."""
    process: ProcessConfig
    """What its scheduler says of the noising process."""


def resolve(source: str, field: str = "source", hub: dict[str, Any] | None = None) -> Source:
    """Find the pipeline folder ``source`` names and read its model's facts.

    ``field`` names the option in complaints; ``hub`` goes to huggingface_hub (revision, token ...).

    Raises:
        UserError: there is no such folder or hub repository, or it holds no diffgen pipeline.
    """
    path = Path(source)
    run = None
    if not path.exists():
        path = _from_hub(source, field, hub or {})
    elif not path.is_dir():
        raise UserError(f"{field}: {source} is a file; give a run folder or a pipeline folder")
    elif not (path / "model_index.json").exists():
        run, path = path, path / "pipeline"
        if not (path / "model_index.json").exists():
            raise UserError(
                f"{field}: {source} holds no pipeline (no pipeline/model_index.json); "
                "a training run writes one at its first checkpoint"
            )
    index = _read_json(path / "model_index.json", field)
    model = _read_json(path / "transformer" / "config.json", field)
    settings = path / "scheduler" / "scheduler_config.json"
    scheduler = _read_json(settings, field) if settings.exists() else {}
    try:
        return Source(
            pipeline=path,
            run=run,
            patch_size=int(model["patch_size"]),
            num_classes=int(model["num_classes"]),
            class_names=tuple(index.get("class_names") or ()),
            sample_size=(int(model["sample_size"][0]), int(model["sample_size"][1])),
            process=process_of(scheduler, model),
        )
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise UserError(f"{field}: {source} is not a diffgen pipeline ({error!r})") from None


def _read_json(path: Path, field: str) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{field}: no diffgen pipeline: {path} is missing") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{field}: {path} cannot be read: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{field}: {path} is not a JSON object")
    return content


def _from_hub(source: str, field: str, hub: dict[str, Any]) -> Path:
    if source.count("/") != 1 or source.startswith((".", "/", "~")):
        raise UserError(
            f"{field}: {source} does not exist; give a run folder, a pipeline folder or a hub id"
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    patterns = ["*.json", "*.safetensors", "**/*.json", "**/*.safetensors"]
    try:
        return Path(snapshot_download(source, allow_patterns=patterns, **hub))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"{field}: no folder {source} here, and the hub did not give it: {reason}"
        ) from None

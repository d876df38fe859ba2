"""Which model it is: digests of the files that decide what it draws."""

import hashlib
from pathlib import Path
from typing import NamedTuple

from diffgen.config.guidance import AutoGuidanceConfig
from diffgen.config.source import resolve
from diffgen.config.vae import find_vae
from diffgen.files import weights_digest
from diffgen.training.posthoc import snapshots_until


class ModelDigests(NamedTuple):
    """What tells one model from another."""

    weights: str
    """Also of a VAE that takes the place of its own."""
    settings: str
    """Of every JSON file of its pipeline."""


def model_digests(source: str, vae: str | None = None) -> ModelDigests:
    """Read all files of the pipeline ``source`` names, and of ``vae``."""
    pipeline = resolve(source).pipeline
    folders = [pipeline] if vae is None else [pipeline, find_vae(vae).folder]
    return ModelDigests(weights_digest(*folders), settings_digest(pipeline))


def settings_digest(pipeline: Path) -> str:
    """Of every JSON file below a folder."""
    settings = b"".join(path.read_bytes() for path in sorted(pipeline.rglob("*.json")))
    return hashlib.sha256(settings).hexdigest()


def guide_digest(guidance: AutoGuidanceConfig, source: str) -> str:
    """Of everything that decides what the guide of the model ``source`` predicts.

    Raises:
        UserError: there is no such guide, or no snapshot to rebuild it from.
    """
    name = guidance.guide or source
    digest = hashlib.sha256("".join(model_digests(name)).encode())
    for file in guide_snapshots(guidance, name) if guidance.rebuilt else []:
        digest.update(file.name.encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()


def guide_snapshots(guidance: AutoGuidanceConfig, name: str) -> list[Path]:
    """The snapshots that the guide ``name`` is rebuilt from, the earliest first.

    Raises:
        UserError: there is none.
    """
    found = resolve(name, "guidance.guide")
    folder = (found.run or found.pipeline) / "snapshots"
    most = guidance.guide_images
    return snapshots_until(folder, 2**62 if most is None else most, "guidance.guide_images")

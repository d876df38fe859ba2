"""Where lies what is trained beside a model: in its run folder, each in a folder of its condition.

Where there is no run it lies beside the pipeline folder: what is in that folder is the model.
"""

import os
from pathlib import Path

from diffgen.config.source import Source
from diffgen.errors import UserError


def run_folder(source: Source) -> Path | None:
    """The run folder that ``source`` is, or lies in; None: there is none."""
    if source.run is not None:
        return source.run
    above = Path(os.path.normpath(source.pipeline / ".."))
    inside = source.pipeline.absolute().name == "pipeline" and (above / "config.yaml").exists()
    return above if inside else None


def aligners_folder(source: Source, name: str) -> Path:
    """The folder of all aligners of the model called ``name``.

    Raises:
        UserError: the model is one of the hub.
    """
    return _beside(source, name, "aligners", "aligner")


def joint_folder(source: Source, name: str) -> Path:
    """The folder of all joint adapters of the model called ``name``.

    Raises:
        UserError: the model is one of the hub.
    """
    return _beside(source, name, "joint", "adapter")


def _beside(source: Source, name: str, kind: str, what: str) -> Path:
    run = run_folder(source)
    if run is None and not Path(name).exists():
        raise UserError(f"out: {name} is a model of the hub; give a folder for its {what}")
    if run is not None:
        return run / kind
    place = source.pipeline
    if place.name in ("", ".."):
        place = Path(os.path.normpath(place.absolute()))
    return place.with_name(f"{place.name}-{kind}")

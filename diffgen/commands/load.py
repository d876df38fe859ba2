"""A model as the commands use it: loaded, in the dtype asked for, on its device."""

from pathlib import Path
from typing import Any, NamedTuple

import diffusers

from diffgen.config.source import Source, resolve
from diffgen.config.vae import find_vae
from diffgen.device import chosen_device
from diffgen.errors import UserError
from diffgen.files import weight_files, weights_digest
from diffgen.models.vae import load_vae
from diffgen.pipeline import DiffGenPipeline

CHANGED = "source: {} is being written; try again when it is there"


class Loaded(NamedTuple):
    """A pipeline, where it came from, and a digest of its weights."""

    pipe: DiffGenPipeline
    source: Source
    weights: str
    guide: DiffGenPipeline | None = None
    """The weaker model of autoguidance."""
    guide_weights: str | None = None
    """Digest of what decides its predictions; see ``digests.guide_digest``."""
    guide_named: Any = None
    """What tells it from other guides of this model."""
    average: Any = None
    """The ``ema_after.RebuiltAverage`` that was put into it; None: its own weights."""


def load_pipeline(
    source: str | Path, device: str = "auto", dtype: str = "fp32", vae: str | None = None
) -> Loaded:
    """Load ``source`` and put it where and how it shall compute.

    Args:
        source: run folder, pipeline folder or hub id.
        device: "auto", "cpu" or "cuda".
        dtype: "fp32" or "bf16", of the model; a VAE computes in fp32.
        vae: folder or hub id of a VAE, in place of the source's own.

    Raises:
        UserError: no such source, no such device, bf16 without a GPU, or the weights changed
            while they were read.
    """
    place = chosen_device(device, "dtype" if dtype == "bf16" else None)
    diffusers.utils.logging.disable_progress_bar()  # the commands show bars of their own
    found = resolve(str(source))
    replaced = {} if vae is None else {"vae": load_vae(vae)}  # a hub's is here only then
    folders = [found.pipeline] if vae is None else [found.pipeline, find_vae(vae).folder]
    before, weights = _state(folders), weights_digest(*folders)
    try:
        pipe = DiffGenPipeline.from_pretrained(found.pipeline, **replaced)
    except (KeyError, TypeError, ValueError) as error:  # of what a damaged JSON says
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UserError(f"source: {found.pipeline} cannot be loaded: {reason}") from error
    if _state(folders) != before:
        raise UserError(CHANGED.format(source))
    pipe.set_progress_bar_config(disable=True)
    if dtype == "bf16":
        pipe.transformer.bfloat16()
    return Loaded(pipe.to(place), found, weights)


def _state(folders: list[Path]) -> list[Any]:
    """Changes when a weight file is replaced or gone."""
    files = [path for folder in folders for path in weight_files(folder)]
    try:
        return [(path, path.stat().st_ino, path.stat().st_mtime_ns) for path in files]
    except OSError:  # gone since it was listed
        return []

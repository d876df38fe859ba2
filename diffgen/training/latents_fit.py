"""Whether latents are what they were: of prepared images, of a model to start from, of a run."""

import math
from pathlib import Path

from diffusers import AutoencoderKL

from diffgen.config.latent_index import LatentIndex
from diffgen.config.source import resolve
from diffgen.config.stored import read_json
from diffgen.config.vae import LatentFormat, own_format
from diffgen.errors import UserError
from diffgen.files import write_json
from diffgen.models.vae import vae_digest

SOURCE = "latents-source.json"
"""Which prepared latents a run is trained on."""


def check_vae(index: LatentIndex, vae: AutoencoderKL, place: str) -> None:
    """Raise UserError unless ``vae``, loaded from ``place``, is the one that encoded them."""
    made_by, digest = index.vae, vae_digest(vae)
    if digest != made_by.weights:
        raise UserError(
            f"vae.path: the latents were prepared with {made_by.path} (weights "
            f"{made_by.weights[:12]}), but {place} has other weights ({digest[:12]}); leave out "
            "vae.path to use the copy beside the latents"
        )
    own = own_format(dict(vae.config))
    if not same(made_by.format, own):
        raise UserError(
            f"vae.path: the latents were prepared with {made_by.path}, which normalises by "
            f"{told(made_by.format)}, but {place} by {told(own)}"
        )


def check_init(init: str, form: LatentFormat, normalise: str) -> None:
    """Raise UserError unless the model ``init`` was trained on latents normalised like ``form``."""
    there = resolve(init, "init").latent
    if there is not None and not same(there, form):
        raise UserError(
            f"init: {init} was trained on latents normalised by {told(there)}, but vae.normalise "
            f"{normalise} gives {told(form)}; --vae.normalise init keeps the model's"
        )


def record_source(run: Path, index: LatentIndex) -> None:
    """Keep in the folder ``run`` which latents it is trained on, for ``check_resumed``."""
    write_json(run / SOURCE, {"images": index.count, "sha256": index.digest})


def check_resumed(run: Path, index: LatentIndex, place: Path) -> None:
    """Check that the latents in ``place`` are those that ``run`` has been trained on so far.

    A run of before there was such a record is taken at its word.

    Raises:
        UserError: they are others, or the record is damaged.
    """
    file = run / SOURCE
    if not file.exists():
        return
    if read_json(file, "data.path", "").get("sha256") != index.digest:
        raise UserError(
            f"data.path: {run} was trained on other latents than are in {place} now; they were "
            "prepared anew, from other images or on another device. Begin a new --out; --init "
            f"{run} starts it from these weights"
        )


def same(one: LatentFormat, other: LatentFormat) -> bool:
    """Equal up to the rounding of single precision."""
    pairs = zip((*one.mean, *one.std), (*other.mean, *other.std), strict=False)
    near = all(math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-6) for a, b in pairs)
    return (one.factor, one.channels) == (other.factor, other.channels) and near


def told(form: LatentFormat) -> str:
    """Its numbers, as a message has them."""
    mean, std = (", ".join(f"{x:.6g}" for x in values) for values in (form.mean, form.std))
    return f"mean {mean} and std {std}"

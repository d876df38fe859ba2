"""SOURCE arguments: a run folder, a pipeline folder or a hub id, read without torch."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffgen.config.base import Size, indivisible
from diffgen.config.process import ProcessConfig, process_of
from diffgen.config.stored import EVERYTHING, from_hub, read_json
from diffgen.config.vae import LatentFormat, find_vae
from diffgen.errors import UserError
from diffgen.files import set_aside

ALLOWED = "a run folder, a pipeline folder or a hub id"


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
    in_channels: int
    """Channels of what the model sees: 3 of an image, or those of its latents."""
    sample_size: tuple[int, int]
    """Height x width it was trained at [image pixels]."""
    process: ProcessConfig
    """What its scheduler says of the noising process."""
    latent: LatentFormat | None
    """None: the model sees pixels."""
    has_vae: bool
    """It holds the VAE its latents are decoded with."""

    @property
    def factor(self) -> int:
        """Side of the square of image pixels behind one of the model's [pixels]."""
        return self.latent.factor if self.latent else 1


def resolve(source: str, field: str = "source", hub: dict[str, Any] | None = None) -> Source:
    """Find the pipeline folder ``source`` names and read its model's facts.

    ``field`` names the option in complaints; ``hub`` goes to huggingface_hub (revision, token ...).

    Raises:
        UserError: there is no such folder or hub repository, or it holds no diffgen pipeline.
    """
    path, run = _present(Path(source)), None
    if not path.exists():
        path = from_hub(source, field, ALLOWED, EVERYTHING, hub or {})
    elif not path.is_dir():
        raise UserError(f"{field}: {source} is a file; give {ALLOWED}")
    elif not (path / "model_index.json").exists():
        run, path = path, _present(path / "pipeline")
        if not (path / "model_index.json").exists():
            raise UserError(
                f"{field}: {source} holds no pipeline (no pipeline/model_index.json); "
                "a training run writes one at its first checkpoint"
            )
    index = _read(path / "model_index.json", field)
    model = _read(path / "transformer" / "config.json", field)
    settings = path / "scheduler" / "scheduler_config.json"
    scheduler = _read(settings, field) if settings.exists() else {}
    try:
        stated = index.get("latent_format")
        latent = LatentFormat.model_validate(stated) if stated else None
        factor = latent.factor if latent else 1
        height, width = model["sample_size"]
        return Source(
            pipeline=path,
            run=run,
            patch_size=int(model["patch_size"]),
            num_classes=int(model["num_classes"]),
            class_names=tuple(index.get("class_names") or ()),
            in_channels=int(model["in_channels"]),
            sample_size=(int(height) * factor, int(width) * factor),
            process=process_of(scheduler, model),
            latent=latent,
            has_vae=(path / "vae" / "config.json").exists(),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{field}: {source} is not a diffgen pipeline ({error!r})") from None


def _present(folder: Path) -> Path:
    """``folder``, or what stands for it where its replacement was killed half-way."""
    if folder.exists() or not set_aside(folder).is_dir():
        return folder
    return set_aside(folder)


def _read(path: Path, field: str) -> dict[str, Any]:
    return read_json(path, field, f"no diffgen pipeline: {path} is missing")


def size_problems(field: str, sizes: list[Size], source: Source) -> Iterator[str]:
    """Complaints about image sizes the source's patch and VAE do not divide."""
    for size in sizes:
        yield from indivisible(field, size, source.patch_size, source.factor)


def vae_problems(source: Source, name: str, vae: str | None) -> Iterator[str]:
    """Complaints about images asked of ``source``, called ``name``, decoded with ``vae``.

    Raises:
        UserError: ``vae`` is no VAE.
    """
    if source.latent is None and source.in_channels not in (1, 3):
        yield (
            f"source: {name} is a model of {source.in_channels} channels, not of images, and does "
            "not say how they are decoded; load it in Python with its vae and save it again"
        )
    elif source.latent is None:
        if vae is not None:
            yield f"vae: {vae} is not needed, {name} is a model of pixels"
    elif vae is None and not source.has_vae:
        yield f"source: {name} is a model of latents without a VAE; give one with --vae"
    else:
        given = find_vae(vae or str(source.pipeline)).format
        if (given.channels, given.factor) != (source.latent.channels, source.latent.factor):
            place = vae or source.pipeline / "vae"
            yield f"vae: {place} has {given}, but {name} was trained on {source.latent}"

"""SOURCE arguments: a run folder, a pipeline folder or a hub id, read without torch."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from diffgen.config.base import Size, indivisible, parse_size, token_grid
from diffgen.config.diffusers_dit import class_names, dit_settings, is_dit_pipeline
from diffgen.config.distilled import Distilled
from diffgen.config.model import Prediction
from diffgen.config.positions import (
    PositionOverrides,
    Positions,
    RPE2DConfig,
    SinCosConfig,
    position_changes,
    read_position,
)
from diffgen.config.process import ProcessConfig, process_of
from diffgen.config.stored import EVERYTHING, from_hub, read_json
from diffgen.config.vae import LatentFormat, find_vae
from diffgen.errors import UserError
from diffgen.files import set_aside

ALLOWED = "a run folder, a pipeline folder (also of a diffusers DiT) or a hub id"


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
    position: Positions
    """Its positional encoding."""
    prediction: Prediction
    """What its output means."""
    distilled: Distilled | None = None
    """It draws in few steps, without guidance."""
    diffusers: bool = False
    """It is a DiTPipeline of diffusers, to be read into diffgen's model."""

    @property
    def every_name(self) -> tuple[str, ...]:
        """A name for every class, "" for those without."""
        names = self.class_names[: self.num_classes]
        return names + ("",) * (self.num_classes - len(names))

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
        parts = ("transformer", "vae")
        if is_dit_pipeline(_read(path / "model_index.json", field)) and not all(
            any(path.glob(f"{part}/*.safetensors")) for part in parts
        ):  # old diffusers wrote pickles
            path = from_hub(source, field, ALLOWED, [*EVERYTHING, "*/*.bin"], hub or {})
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
    if is_dit_pipeline(index):
        return _diffusers_source(path, index, scheduler, field)
    try:
        stated = index.get("latent_format")
        latent = LatentFormat.model_validate(stated) if stated else None
        factor = latent.factor if latent else 1
        height, width = model["sample_size"]
        few = index.get("distilled")
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
            position=read_position(model.get("position")),
            prediction=model.get("prediction", "velocity"),
            distilled=Distilled.model_validate(few) if few else None,
        )
    except (KeyError, TypeError, ValueError) as error:
        why = error.errors()[0]["msg"] if isinstance(error, ValidationError) else repr(error)
        raise UserError(f"{field}: {source} is not a diffgen pipeline ({why})") from None


def _diffusers_source(
    path: Path, index: dict[str, Any], scheduler: dict[str, Any], field: str
) -> Source:
    """The facts of a DiTPipeline's folder.

    Raises:
        UserError: its transformer, VAE or betas are none diffgen knows.
    """
    model = dit_settings(path / "transformer", field)
    latent = find_vae(str(path), field).format
    if latent.channels != model["in_channels"]:
        raise UserError(f"{field}: {path} has {model['in_channels']} channels, its vae {latent}")
    if model["sample_size"] % model["patch_size"]:
        raise UserError(
            f"{field}: {path} has sample_size {model['sample_size']}, no multiple of its patch"
        )
    try:
        process = process_of({"_class_name": "DDIMScheduler", **scheduler}, model)
    except (TypeError, ValueError) as error:
        why = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise UserError(f"{field}: the scheduler of {path} is damaged: {why}") from None
    if process.kind != "ddpm":
        raise UserError(f"{field}: {path} has a flow's scheduler, but diffusers' DiT is a DDPM")
    side = model["sample_size"] * latent.factor
    return Source(
        pipeline=path,
        run=None,
        patch_size=model["patch_size"],
        num_classes=model["num_embeds_ada_norm"],
        class_names=class_names(index, model["num_embeds_ada_norm"]),
        in_channels=model["in_channels"],
        sample_size=(side, side),
        process=process,
        latent=latent,
        has_vae=True,
        position=SinCosConfig(),
        prediction="eps",
        diffusers=True,
    )


def _present(folder: Path) -> Path:
    """``folder``, or what stands for it where its replacement was killed half-way."""
    if folder.exists() or not set_aside(folder).is_dir():
        return folder
    return set_aside(folder)


def _read(path: Path, field: str) -> dict[str, Any]:
    return read_json(path, field, f"no diffgen pipeline: {path} is missing")


def refused_if_distilled(name: str, why: str) -> Iterator[str]:
    """The complaint about the model ``name`` where it is distilled, and ``why``.

    None where there is no such model, which others complain about.
    """
    with suppress(UserError):
        if resolve(name).distilled is not None:
            yield f"source: {name} is distilled to few steps: {why}"


def position_problems(source: Source, overrides: PositionOverrides) -> Iterator[str]:
    """The complaint about an override the source's encoding does not have."""
    try:
        position_changes(source.position, overrides)
    except ValueError as error:
        yield str(error)
    token, temperature = source.factor * source.patch_size, overrides.temperature
    if temperature not in (None, "none") and max(source.sample_size) < 2 * token:
        yield f"temperature: {temperature} needs a model trained on more than one token"


def size_problems(field: str, sizes: list[Size], source: Source) -> Iterator[str]:
    """Complaints about image sizes the source's patch and VAE do not divide, or its encoding ends
    before."""
    token = source.factor * source.patch_size
    grid = token_grid(source.sample_size, token)
    for size in sizes:
        yield from indivisible(field, size, source.patch_size, source.factor)
        yield from beyond_range(field, size, token, source.position, grid)


def beyond_range(
    field: str, size: Size, token: int, position: Positions, grid: tuple[int, int]
) -> Iterator[str]:
    """The complaint about a size over the range of an encoding trained on ``grid`` tokens of
    ``token`` pixels a side."""
    if not isinstance(position, RPE2DConfig):
        return
    most = [token * side for side in position.ranges(grid)]
    height, width = parse_size(size)
    if height > most[0] or width > most[1]:
        yield (
            f"{field}: {size} is over the range of the rpe2d encoding, which ends at "
            f"{most[0]}x{most[1]}"
        )


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

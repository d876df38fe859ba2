"""The configuration of ``sample/joint.py``."""

from collections.abc import Iterator
from pathlib import Path

from pydantic import Field
from pydantic_settings import CliPositionalArg

from diffgen.config.base import Size, parse_size
from diffgen.config.condition_sizes import file_problems
from diffgen.config.data import IMAGE_SUFFIXES
from diffgen.config.distilled import NO_OTHER_LEVELS
from diffgen.config.guidance import AutoGuidanceConfig
from diffgen.config.guide import guidance_problems
from diffgen.config.joint_given import (
    IMAGE,
    JointGivenConfig,
    adapters_place,
    missing_adapter,
    own_place,
    parted,
    taken_in_turn,
)
from diffgen.config.joint_pairing import crossing_out, pairing_problems
from diffgen.config.process import solver_problems
from diffgen.config.sampling import (
    Device,
    Dtype,
    SamplingConfig,
    class_indices,
    device_problems,
)
from diffgen.config.source import (
    Source,
    position_problems,
    refused_if_distilled,
    resolve,
    size_problems,
    vae_problems,
)
from diffgen.config.train import unwritable
from diffgen.errors import UserError

FEW = 16
"""Images drawn where nothing tells how many."""


class JointSampleConfig(JointGivenConfig, SamplingConfig):
    """Draw images and pictures of their conditions jointly, or each from the other (UniCon)."""

    source: CliPositionalArg[str]
    """Run folder, pipeline folder or hub id of the model."""
    vae: str | None = None
    """Folder or hub id of the VAE that decodes a model of latents; none: the one it comes with."""
    size: list[Size] = Field(default=[])
    """HEIGHTxWIDTH of the images [pixels]; may be given several times; none: as trained."""
    classes: list[str] = Field(default=[])
    """Class names or numbers, separated by commas, taken in turn; none given: all, or where images
    are given, no class is told."""
    num_images: int | None = Field(default=None, ge=1)
    """Images, each with its conditions, drawn at each size; none: as many as there are files in
    the largest folder of --given and --known, else 16 [count]."""
    seed: int = Field(default=0, ge=0)
    """Image k of a size and its conditions start from the noise of (seed, k), whatever the batch
    size."""
    device: Device = "auto"
    """Where to compute; auto: a GPU if there is one."""
    dtype: Dtype = "fp32"
    """Arithmetic of the model; bf16 needs a GPU."""
    out: Path = Path("pairs")
    """Folder for SIZE/image/*.png and the like of every condition, with the same names, the contact
    sheets and settings.json."""

    def count(self) -> int:
        """Images drawn at each size."""
        if self.num_images is not None:
            return self.num_images
        paths = [path for _, path in parted([*self.given, *self.known])]
        files = [len(taken_in_turn(path, None)) for path in paths]
        return max(files, default=FEW) or 1

    def labels_told(self, source: Source) -> list[int]:
        """Labels that images are told in turn; none: all.

        Raises:
            ValueError: a class the model does not know.
        """
        chosen = class_indices(self.classes, source)
        images_given = any(name == IMAGE for name, _ in parted(self.given))
        return [source.num_classes] if images_given and not chosen else chosen

    def problems(self) -> Iterator[str]:
        """Yield mistakes that show only beside the model's own files."""
        try:
            source = resolve(self.source)
            if source.distilled is not None:
                yield from refused_if_distilled(self.source, NO_OTHER_LEVELS)
                return
            yield from vae_problems(source, self.source, self.vae)
            yield from size_problems("size", self.size, source)
            yield from self._walk_problems(source)
            yield from contradictions(self)
            yield from self._file_problems(source)
            self.labels_told(source)
        except UserError as error:
            yield str(error)
        except ValueError as error:
            yield f"classes: {error}"
        yield from device_problems(self.device, "dtype", self.dtype == "bf16")
        yield from unwritable("out", self.out)

    def _walk_problems(self, source: Source) -> Iterator[str]:
        yield from position_problems(source, self)
        if self.scheduler == "heun":
            others = [name for name in source.process.schedulers if name != "heun"]
            yield (
                "scheduler: heun evaluates the model twice a step, which joint generation does "
                f"not; use {', '.join(others)}"
            )
        else:
            yield from solver_problems(
                "", self.scheduler, self.steps, self.time_shift, source.process
            )
        if isinstance(self.guidance, AutoGuidanceConfig):
            yield (
                "guidance.kind: autoguidance is not for joint generation, whose guide would need "
                "adapters of its own; use cfg, apg or cfg_zero_star"
            )
        else:
            yield from guidance_problems(self, source, self.size)

    def _file_problems(self, source: Source) -> Iterator[str]:
        """Yield conditions without an adapter, and files that cannot be used."""
        place = adapters_place(self.adapters, source, self.source)
        own = own_place(source, self.source)
        named = {"given": parted(self.given), "known": parted(self.known)}
        for name in self.conditions():
            field = "given" if name in dict(named["given"]) else "want"
            if ":" not in name:  # of a user's own module, whose condition tells its name
                yield from missing_adapter(field, name, place, self.source, own)
        drawn = [parse_size(size) for size in self.size] or [source.sample_size]
        for field, pairs in named.items():
            for name, path in pairs:
                files = taken_in_turn(path, self.count())
                if not files:
                    kinds = ", ".join(sorted(IMAGE_SUFFIXES))
                    yield f"{field}: {name}={path} holds no images ({kinds})"
                remedy = "make the mask the shape of the map" if field == "known" else None
                yield from file_problems(f"{field}: {name}=", files, source, drawn, remedy)
        yield from pairing_problems(named, self.count())
        yield from crossing_out(named, self.out)


def contradictions(config: JointGivenConfig) -> Iterator[str]:
    """Complaints about what is given and wanted that do not fit each other."""
    conditions, given = config.conditions(), [name for name, _ in parted(config.given)]
    known = [name for name, _ in parted(config.known)]
    if not conditions and given:
        yield "given: image alone takes no adapter; name a condition, for example --want depth"
    elif not conditions and config.want:
        yield (
            "want: image alone needs no adapter (sample/generate.py draws it); name a condition, "
            "for example --want image,depth"
        )
    elif not conditions:
        yield "want: name one condition or more, for example --want image,depth"
    for field, names in (("given", given), ("known", known)):
        for name in sorted({name for name in names if names.count(name) > 1}):
            yield f"{field}: {name} is given twice; for several pictures give a folder of them"
    for name in sorted(set(known) - set(given)):
        yield f"known: {name} is not given, so no part of it can be kept; add --given {name}=PATH"
    if config.coarse and not given:
        yield f"coarse: {','.join(map(str, config.coarse))} has no effect without --given"
    elif len(config.coarse) not in (0, 1, len(given)):
        yield (
            f"coarse: {len(config.coarse)} are given for {len(given)} of --given; give one for "
            "all, or one each"
        )
    if len(config.weight) not in (0, 1, len(conditions)):
        yield (
            f"weight: {len(config.weight)} are given for {len(conditions)} conditions; give one "
            "for all, or one each"
        )
    if config.given_from == "picture" and not set(given) - {IMAGE}:
        yield "given_from: picture has no effect without a given condition"
    yield from _level_problems(config)
    whole = [one.name for one in config.requests() if one.whole]
    for name in [name for name in dict.fromkeys(config.want) if name in whole]:
        yield f"want: {name} is given as it is; a --coarse above 0 draws it anew"
    if conditions and not config.want and not config.drawn():
        yield (
            f"given: {' and '.join(whole)} are given as they are, which leaves nothing to draw; "
            "name more by --want, or give a --coarse above 0"
        )


def _level_problems(config: JointGivenConfig) -> Iterator[str]:
    """Complaints about levels that leave a file or a mask without effect."""
    for one in config.requests():
        if one.whole and one.known is not None:
            yield (
                f"coarse: 0 takes {one.name} as it is, but --known {one.name} leaves a part to be "
                "drawn; give more than 0, at most 1"
            )
        if one.coarse == 1 and one.known is None:
            yield (
                f"coarse: 1 draws {one.name} from pure noise, {one.path} would not count; give "
                f"less, or --want {one.name} instead of --given"
            )

"""What trainings beside a trained model have in common: it, its pictures, and a folder."""

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Generic, Literal, TypeVar

from pydantic import Field
from pydantic_settings import CliPositionalArg
from typing_extensions import Self

from diffgen.config.base import Section, default_kind
from diffgen.config.command_line import load
from diffgen.config.data import DataConfig, DigitsConfig, FolderConfig, ShapesConfig
from diffgen.config.distilled import NO_OTHER_LEVELS
from diffgen.config.ema import ConstantEMAConfig
from diffgen.config.hub import HubConfig
from diffgen.config.latents import pictures_of
from diffgen.config.loop import LoopConfig
from diffgen.config.optimizer import AdamWConfig, MuonConfig, ScheduleConfig
from diffgen.config.places import run_folder
from diffgen.config.sampling import Device, device_problems
from diffgen.config.source import (
    Source,
    refused_if_distilled,
    resolve,
    size_problems,
    vae_problems,
)
from diffgen.config.train import TrainConfig, unwritable
from diffgen.errors import UserError

C = TypeVar("C", bound="BesideConfig")


class OwnDataConfig(Section):
    """The pictures the model was trained on, as its run folder names them."""

    kind: Literal["own"] = "own"
    """Source of the images; own: those the model was trained on, as its run folder names them."""


class BesideAdamWConfig(AdamWConfig):
    """AdamW on everything that is trained beside the model."""

    lr: float = Field(default=2e-3, gt=0)
    """Peak learning rate of AdamW."""
    weight_decay: float = Field(default=0.01, ge=0)
    """Decoupled weight decay [per unit of learning rate]."""


class BesideLoopConfig(LoopConfig):
    """The training loop. Everything that passes is counted in images seen."""

    images: int = Field(default=32_768, ge=1)
    """Length of the training [images seen]."""
    batch_size: int = Field(default=32, ge=1)
    """Images an optimiser step sees, over all processes and accumulation [images]."""
    clip_norm: float = Field(default=1.0, ge=0)
    """Largest norm of the gradient; 0: unclipped."""


class BesideConfig(Section):
    """Train something beside a trained model, which itself stays as it is."""

    source: CliPositionalArg[str]
    """Run folder, pipeline folder or hub id of the model."""
    data: Annotated[
        OwnDataConfig | ShapesConfig | DigitsConfig | FolderConfig | HubConfig,
        Field(discriminator="kind"),
        default_kind("own"),
    ] = OwnDataConfig()
    """Training images, all of one size: where the model saw others, the centre crop of them."""
    vae: str | None = None
    """Folder or hub id of the VAE of a model of latents; none: the one it comes with."""
    class_dropout: float = Field(default=0.1, ge=0, le=1)
    """Share of images whose class the model is not told [0 to 1]."""
    optimizer: Annotated[
        BesideAdamWConfig | MuonConfig, Field(discriminator="kind"), default_kind("adamw")
    ] = BesideAdamWConfig()
    """Optimiser."""
    schedule: ScheduleConfig = ScheduleConfig()
    """Learning rate over time."""
    ema: ConstantEMAConfig = ConstantEMAConfig()
    """Averaged weights."""
    train: BesideLoopConfig = BesideLoopConfig()
    """Training loop."""
    device: Device = "auto"
    """Where to compute; auto: a GPU if there is one."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Seed of the new weights, data order, noise, times and augmentation."""
    out: Path | None = None
    """Folder of what is trained; none: in the model's run folder, or where there is no run beside
    its pipeline folder. Running the same command again resumes what it holds."""

    @abstractmethod
    def place(self, source: Source) -> Path:
        """The folder that holds a folder of each condition.

        Raises:
            UserError: the model is one of the hub.
        """

    @abstractmethod
    def own_problems(self, source: Source) -> Iterator[str]:
        """Yield what else does not fit the model."""

    def problems(self) -> Iterator[str]:
        """Yield mistakes that show only beside the model's own files."""
        yield from self.train.problems()
        yield from device_problems(self.device, "train.precision", self.train.precision == "bf16")
        if self.out is not None:
            yield from _out_problems(self.out)
        try:
            source = resolve(self.source)
            if source.distilled is not None:
                yield from refused_if_distilled(self.source, NO_OTHER_LEVELS)
                return
            yield from vae_problems(source, self.source, self.vae)
            yield from self.own_problems(source)
            if source.latent is None and source.in_channels == 1:
                yield f"source: {self.source} is a model of 1 channel, but pictures have 3"
            if self.out is None:
                yield from unwritable("out", self.place(source))
            data = self._pictures(source)
        except UserError as error:
            yield str(error)
            return
        yield from data.problems()
        yield from size_problems("data.size", [data.size], source)

    def settled(self, name: str) -> "Settled[Self]":
        """With what it leaves to the source; ``name``: of the condition's folder.

        Raises:
            UserError: there is no such source, or it does not tell.
        """
        source = resolve(self.source)
        given = self._pictures(source)
        data, out = of_one_size(given), self.out or self.place(source) / name
        config = self.model_copy(update={"data": data, "out": out})
        replaced = None if isinstance(given, DigitsConfig) or given == data else given.crop
        return Settled(config, data, out, source, replaced)

    def _pictures(self, source: Source) -> DataConfig:
        if not isinstance(self.data, OwnDataConfig):
            return self.data
        run = run_folder(source)
        if run is None:
            raise UserError(
                f"data.kind: {self.source} is in no run folder that would tell its pictures; give "
                "some, for example --data.kind folder --data.path DIR"
            )
        return pictures_of(load(TrainConfig, run / "config.yaml").data, self.source)


def _out_problems(out: Path) -> Iterator[str]:
    if (out / "pipeline").exists() or (out / "model_index.json").exists():
        yield f"out: {out} is the folder of a model; what is trained needs one of its own"
    yield from unwritable("out", out)


@dataclass(frozen=True)
class Settled(Generic[C]):
    """A configuration that leaves nothing open."""

    config: C
    data: DataConfig
    out: Path
    source: Source
    replaced: str | None
    """The data's crop, where center stands in for it."""

    @property
    def held_out(self) -> bool:
        """Whether the data sets pictures apart, which the training does not see."""
        return isinstance(self.data, ShapesConfig | DigitsConfig)


def of_one_size(data: DataConfig) -> DataConfig:
    """``data`` as pictures of one size, centre crops; drawn ones whole, as their maps are."""
    if isinstance(data, DigitsConfig) or data.crop == "center":
        return data
    if data.crop == "random" and not isinstance(data, ShapesConfig):
        return data
    defaults = type(data).model_fields
    crops = {name: defaults[name].default for name in ("crop_scale", "crop_share")}
    return data.model_copy(update={"crop": "center", **crops})

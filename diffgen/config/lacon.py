"""The configuration of ``train/lacon.py``."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import AfterValidator, Field
from pydantic_settings import CliPositionalArg

from diffgen.config.aligners import aligners_folder, run_folder
from diffgen.config.base import Section, default_kind
from diffgen.config.command_line import load
from diffgen.config.data import DataConfig, DigitsConfig, FolderConfig, ShapesConfig
from diffgen.config.ema import ConstantEMAConfig
from diffgen.config.hub import HubConfig
from diffgen.config.optimizer import AdamWConfig, ScheduleConfig
from diffgen.config.sampling import Device, device_problems
from diffgen.config.source import Source, resolve, size_problems, vae_problems
from diffgen.config.stored import read_json
from diffgen.config.train import LoopConfig, TrainConfig, unwritable
from diffgen.errors import UserError

Fusion = Literal["concat", "mix"]


class OwnDataConfig(Section):
    """The pictures the model was trained on, as its run folder names them."""

    kind: Literal["own"] = "own"
    """Source of the images; own: those the model was trained on, as its run folder names them."""


class AlignerAdamWConfig(AdamWConfig):
    """AdamW on every parameter of the aligner."""

    lr: float = Field(default=2e-3, gt=0)
    """Peak learning rate of AdamW."""
    weight_decay: float = Field(default=0.01, ge=0)
    """Decoupled weight decay [per unit of learning rate]."""


class AlignerLoopConfig(LoopConfig):
    """The training loop. Everything that passes is counted in images seen."""

    images: int = Field(default=32_768, ge=1)
    """Length of the training [images seen]."""
    batch_size: int = Field(default=32, ge=1)
    """Images an optimiser step sees, over all processes and accumulation [images]."""
    clip_norm: float = Field(default=1.0, ge=0)
    """Largest norm of the gradient; 0: unclipped."""


def _distinct(blocks: list[int]) -> list[int]:
    if len(set(blocks)) < len(blocks) or any(block < 0 for block in blocks):
        raise ValueError("must name every block once, counted from 0")
    return blocks


class LaconConfig(Section):
    """Train an aligner, which reads a condition from the features of a trained model, so that its
    images can be steered. The model itself stays as it is."""

    source: CliPositionalArg[str]
    """Run folder, pipeline folder or hub id of the model."""
    condition: str = "edge"
    """What is read: edge, mask, stroke, palette, depth where the data has it, or MODULE:NAME, a
    Condition of your own."""
    data: Annotated[
        OwnDataConfig | ShapesConfig | DigitsConfig | FolderConfig | HubConfig,
        Field(discriminator="kind"),
        default_kind("own"),
    ] = OwnDataConfig()
    """Training images, all of one size: where the model saw others, the centre crop of them."""
    vae: str | None = None
    """Folder or hub id of the VAE of a model of latents; none: the one it comes with."""
    blocks: Annotated[list[int], AfterValidator(_distinct)] = Field(default=[])
    """Blocks of the model whose features are read, separated by commas, the first being 0; none
    given: six spread over the depth, or all of fewer."""
    width: int | None = Field(default=None, ge=1)
    """Channels a block's features are brought to; none: 3/16 of the model's."""
    head_width: int | None = Field(default=None, ge=4, multiple_of=4)
    """Channels of the convolutions, a multiple of 4; none: 1/16 of the model's, 16 at least."""
    fusion: Fusion = "concat"
    """How the blocks' features are put together: side by side, or as a weighted sum."""
    low: float = Field(default=0.05, ge=0.001, le=0.95)
    """Smallest training time, no smaller than a DDPM model's first step; times are uniform above it
    [0.001 to 0.95, 1 being pure noise]."""
    class_dropout: float = Field(default=0.1, ge=0, le=1)
    """Share of images whose class the model is not told [0 to 1]."""
    optimizer: AlignerAdamWConfig = AlignerAdamWConfig()
    """Optimiser."""
    schedule: ScheduleConfig = ScheduleConfig()
    """Learning rate over time."""
    ema: ConstantEMAConfig = ConstantEMAConfig()
    """Averaged weights."""
    train: AlignerLoopConfig = AlignerLoopConfig()
    """Training loop."""
    device: Device = "auto"
    """Where to compute; auto: a GPU if there is one."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Seed of the aligner's weights, data order, noise, times and augmentation."""
    out: Path | None = None
    """Folder of the aligner; none: aligners/CONDITION in the model's run folder, or where there is
    no run PIPELINE-aligners/CONDITION beside its pipeline folder. Running the same command
    again resumes what it holds."""

    def problems(self) -> Iterator[str]:
        """Yield mistakes that show only beside the model's own files."""
        yield from self.train.problems()
        yield from device_problems(self.device, "train.precision", self.train.precision == "bf16")
        if self.out is not None:
            yield from self._out_problems(self.out)
        try:
            source = resolve(self.source)
            yield from vae_problems(source, self.source, self.vae)
            yield from self._block_problems(source)
            if source.latent is None and source.in_channels == 1:
                yield f"source: {self.source} is a model of 1 channel, but pictures have 3"
            if self.out is None:
                yield from unwritable("out", aligners_folder(source, self.source))
            data = self._pictures(source)
        except UserError as error:
            yield str(error)
            return
        yield from data.problems()
        yield from size_problems("data.size", [data.size], source)

    def settled(self, name: str) -> "Settled":
        """With what it leaves to the source; ``name``: of the condition's folder.

        Raises:
            UserError: there is no such source, or it does not tell.
        """
        source = resolve(self.source)
        given = self._pictures(source)
        data, out = of_one_size(given), self.out or aligners_folder(source, self.source) / name
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
        return load(TrainConfig, run / "config.yaml").data

    def _block_problems(self, source: Source) -> Iterator[str]:
        file = source.pipeline / "transformer" / "config.json"
        model = read_json(file, "source", f"{file} is missing")
        depth = model.get("num_layers" if source.diffusers else "depth")
        if depth is not None and max(self.blocks, default=0) >= depth:
            yield (
                f"blocks: {max(self.blocks)} is none of the model's {depth}, which are 0 to "
                f"{depth - 1}"
            )

    @staticmethod
    def _out_problems(out: Path) -> Iterator[str]:
        if (out / "pipeline").exists() or (out / "model_index.json").exists():
            yield f"out: {out} is the folder of a model; an aligner needs one of its own"
        yield from unwritable("out", out)


class Settled(NamedTuple):
    """A configuration that leaves nothing open."""

    config: LaconConfig
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

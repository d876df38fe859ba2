"""The configuration of a training run. Its defaults are the demo recipe."""

import math
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryFile
from typing import Annotated, Any

from pydantic import Field, model_validator

from diffgen.config.align import AlignConfig
from diffgen.config.base import Section, Size, default_kind, indivisible, parse_size, token_grid
from diffgen.config.data import DataConfig, ShapesConfig
from diffgen.config.ema import EMAConfig, PowerEMAConfig
from diffgen.config.guidance import AutoGuidanceConfig
from diffgen.config.latents import LatentsConfig, idle_options
from diffgen.config.loop import ModelLoopConfig
from diffgen.config.model import DiTConfig, attention_problems
from diffgen.config.optimizer import MuonConfig, OptimizerConfig, ScheduleConfig
from diffgen.config.positions import position_changes
from diffgen.config.process import (
    DDPMConfig,
    FlowConfig,
    prediction_problems,
    solver_problems,
)
from diffgen.config.sampling import Device, SamplingConfig, accelerator_absent, device_problems
from diffgen.config.source import beyond_range, resolve
from diffgen.config.track import Tracker, missing_trackers
from diffgen.config.vae import LatentFormat, VAEConfig, find_vae, resumed_format
from diffgen.config.validation import ValidationConfig
from diffgen.errors import UserError


class ReportConfig(Section):
    """What is drawn and scored when the training is done."""

    sizes: list[Size] = Field(default=[])
    """Sizes of the final picture grid, HEIGHTxWIDTH [pixels]; none given: the training size,
    half as large again, and both shapes of 1 to 2."""
    num_images: int = Field(default=512, ge=0)
    """Images drawn to score the model at its training size, 8 or more; 0: none [images]."""

    def problems(self) -> Iterator[str]:
        """Yield a number of images too small to score."""
        if 0 < self.num_images < 8:
            yield f"report.num_images: {self.num_images} is too few to score; give 0, or 8 or more"


class TrainConfig(Section):
    """Train a diffusion transformer. Without any argument: the demo on drawn shapes."""

    out: Path = Path("runs/demo")
    """Run folder. Running the same command again resumes what it holds."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Seed of the weights, data order, noise, times and augmentation."""
    init: str | None = None
    """Start from the weights of this run folder, pipeline folder or hub id."""
    device: Device = "auto"
    """Where to compute; auto: a GPU if there is one."""
    track: list[Tracker] = Field(default=[])
    """Trackers that get the lines of metrics.jsonl too; tensorboard comes with the extra track."""
    data: DataConfig = ShapesConfig()
    """Training images."""
    vae: VAEConfig | None = None
    """Autoencoder of a model of latents; none: a model of pixels."""
    model: DiTConfig = DiTConfig()
    """Backbone."""
    process: Annotated[
        FlowConfig | DDPMConfig, Field(discriminator="kind"), default_kind("flow")
    ] = FlowConfig()
    """Noising process."""
    optimizer: OptimizerConfig = MuonConfig()
    """Optimiser."""
    schedule: ScheduleConfig = ScheduleConfig()
    """Learning rate over time."""
    ema: EMAConfig = PowerEMAConfig()
    """Averaged weights."""
    train: ModelLoopConfig = ModelLoopConfig()
    """Training loop."""
    sampling: SamplingConfig = SamplingConfig()
    """How previews and the final report are sampled."""
    align: AlignConfig | None = None
    """Align features with those of a frozen encoder (REPA); none: they are free."""
    validation: ValidationConfig = ValidationConfig()
    """What is measured while training."""
    report: ReportConfig = ReportConfig()
    """Final pictures and scores."""

    @model_validator(mode="before")
    @classmethod
    def _prepared_latents_bring_their_vae(cls, values: Any) -> Any:
        data = values.get("data") if isinstance(values, dict) else None
        if isinstance(data, LatentsConfig):
            data = {"kind": data.kind, "path": data.path}
        if not isinstance(data, dict) or data.get("kind") != "latents" or "path" not in data:
            return values
        given = values.get("vae") or {}
        if isinstance(given, dict):
            values = {**values, "vae": {"path": str(data["path"]), **given}}
        return values

    def problems(self) -> Iterator[str]:
        """Yield mistakes across fields and on the disk."""
        yield from self.data.problems()
        yield from self.model.problems()
        yield from self.report.problems()
        yield from prediction_problems(self.process, self.model.prediction)
        drawn = self.sampling
        yield from solver_problems(
            "sampling.", drawn.scheduler, drawn.steps, drawn.time_shift, self.process
        )
        for problem in drawn.guidance.problems():
            yield problem.replace("guidance.", "sampling.guidance.")
        if self.model.num_classes == 0 and drawn.guidance.wants_classes:
            yield "sampling.guidance.kind: a model without classes has nothing to guide towards"
        if isinstance(drawn.guidance, AutoGuidanceConfig):
            yield (
                "sampling.guidance.kind: autoguidance is for trained models; use it in sample and "
                "eval"
            )
        try:
            position_changes(self.model.position, drawn)
        except ValueError as error:
            yield f"sampling.{error}"
        cuda = self.device != "cpu" and not accelerator_absent()
        for problem in attention_problems(
            self.model.attention, cuda, self.train.precision == "bf16"
        ):
            yield f"model.{problem}"
        yield from self.train.problems()
        yield from self._speed_problems()
        yield from self.validation.misfits(self.data)
        if self.train.mixed == "padded" and not self.data.mixed_sizes:
            yield "train.mixed: padded has no effect where all images have one size"
        if self.train.trainable and self.init is None and not self._resumed():
            yield (
                "train.trainable: the other parameters would stay random; give a model to start "
                "from with --init"
            )
        yield from device_problems(self.device, "train.precision", self.train.precision == "bf16")
        yield from missing_trackers(self.track)
        yield from unwritable("out", self.out)
        if self.vae is not None:
            yield from self.vae.problems()
            if isinstance(self.data, LatentsConfig):
                yield from idle_options(self.vae)
            yield from device_problems(self.device, "vae.precision", self.vae.precision == "bf16")
        try:
            latent = self._latent_format()
        except UserError as error:
            yield str(error)
            yield from self._size_problems(1)
            return
        yield from self._size_problems(latent.factor if latent else 1)
        yield from self._init_problems(latent)
        channels = latent.channels if latent else 3
        for field, guided in (
            ("sampling.guidance.channels", drawn.guidance.channels),
            ("model.guidance_channels", self.model.guidance_channels),
        ):
            if guided is not None and guided > channels:
                yield f"{field}: {guided}, but the model has {channels}"

    def _speed_problems(self) -> Iterator[str]:
        """Yield switches that do not go together."""
        loop = self.train
        if loop.route is not None:
            yield from loop.route.problems(self.model.depth, self.data.mixed_sizes)
        if self.align is not None:
            yield from self.align.problems()
            yield from self.align.misfits(
                depth=self.model.depth,
                routed=loop.route.bounds(self.model.depth) if loop.route else None,
                mixed_sizes=self.data.mixed_sizes,
                stored_latents=isinstance(self.data, LatentsConfig),
                sharded=loop.sharding == "full",
            )
        if loop.compile and self.data.mixed_sizes and loop.mixed == "packed":
            yield (
                "train.compile: packed batches of mixed sizes are not compiled; "
                "take train.mixed padded"
            )
        if loop.sharding == "full" and isinstance(self.optimizer, MuonConfig):
            yield (
                "train.sharding: full splits the matrices that Muon needs whole; "
                "use --optimizer.kind adamw"
            )
        if loop.sharding == "full" and loop.token_budget and self.data.mixed_sizes:
            yield (
                "train.token_budget: with train.sharding full the processes must compute equally "
                "many pieces, which images of mixed sizes are not cut into; leave it out"
            )
        steps = math.ceil(loop.images / loop.batch_size)
        if self.ema.every > steps:
            yield f"ema.every: {self.ema.every}, but the training has {steps} steps"

    def factor(self) -> int:
        """Side of the square of image pixels behind one of the model's [pixels]."""
        latent = self._latent_format()
        return latent.factor if latent else 1

    def _latent_format(self) -> LatentFormat | None:
        """What the model sees; None: pixels."""
        if self.vae is None:
            return None
        if self._resumed() and (self.out / "latents.json").exists():
            return resumed_format(self.out)
        return find_vae(self.vae.path, "vae.path", self.vae.revision).format

    def _resumed(self) -> bool:
        return any((self.out / "checkpoints").glob("images-*"))

    def _size_problems(self, factor: int) -> Iterator[str]:
        for field, sizes in (("data.size", [self.data.size]), ("report.sizes", self.report.sizes)):
            for size in sizes:
                yield from indivisible(field, size, self.model.patch_size, factor)
        token = factor * self.model.patch_size
        grid = token_grid(parse_size(self.data.size), token)
        for field, sizes in (("data.size", [self.data.size]), ("report.sizes", self.report.sizes)):
            for size in sizes:
                yield from beyond_range(field, size, token, self.model.position, grid)
        budget = self.train.token_budget
        if budget is not None and budget < grid[0] * grid[1]:
            yield (
                f"train.token_budget: {budget} is less than one image, data.size {self.data.size} "
                f"has {grid[0] * grid[1]} tokens"
            )
        warm = {self.model.position.temperature, self.sampling.temperature} - {"none", None}
        if warm and max(self.model.position.trained(grid)) < 2:
            yield (
                f"temperature: {warm.pop()} needs training images of more than one token, "
                f"data.size {self.data.size} or model.position.trained_grid is one"
            )

    def _init_problems(self, latent: LatentFormat | None) -> Iterator[str]:
        """Yield channels of ``init`` that are not those of this model."""
        if self.init is None or self._resumed():
            return
        channels = latent.channels if latent else 3
        there = resolve(self.init, "init").in_channels
        if there != channels:
            where = f"the latents of {self.vae.path}" if self.vae else "pixels"
            yield f"init: {self.init} is a model of {there} channels, but {where} have {channels}"


def unwritable(field: str, folder: Path) -> Iterator[str]:
    """The complaint about an output folder that cannot be written, if it cannot."""
    existing = folder.absolute()
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir():
        yield f"{field}: {folder} cannot be made: {existing} is not a folder"
        return
    try:
        with TemporaryFile(dir=existing):  # the only test that also holds for root
            pass
    except OSError as error:
        yield f"{field}: {folder} is not writable ({error.strerror})"

"""The configuration of ``train/nitro.py``."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from pydantic_settings import CliPositionalArg

from diffgen.config.base import ReadNumber, Section, default_kind, parse_size
from diffgen.config.beside import OwnDataConfig
from diffgen.config.command_line import load
from diffgen.config.data import DataConfig, DigitsConfig, FolderConfig, ShapesConfig
from diffgen.config.ema import ConstantEMAConfig
from diffgen.config.hub import HubConfig
from diffgen.config.latents import pictures_of
from diffgen.config.networks import extractor_problems
from diffgen.config.nitro_fit import (
    count_problems,
    head_problems,
    pair_problems,
    place_problems,
)
from diffgen.config.nitro_stages import (
    HeadsConfig,
    PairsConfig,
    RegressionConfig,
    ScoreConfig,
    StudentAdamWConfig,
    StudentLoopConfig,
)
from diffgen.config.optimizer import MuonConfig, ScheduleConfig
from diffgen.config.places import run_folder
from diffgen.config.sampling import Device, device_problems
from diffgen.config.source import Source, resolve, vae_problems
from diffgen.config.train import TrainConfig
from diffgen.errors import UserError

RELEASED_SHIFT = 0.25
"""Of NitroSD-Realism."""


class NitroConfig(Section):
    """Distil a trained model into a one-step generator by a dynamic pool of discriminators
    (NitroFusion). The model itself stays as it is."""

    source: CliPositionalArg[str]
    """Run folder, pipeline folder or hub id of the model, the teacher."""
    vae: str | None = None
    """Folder or hub id of the VAE of a model of latents; none: the one it comes with."""
    pairs: PairsConfig = PairsConfig()
    """The teacher's images."""
    regression: RegressionConfig = RegressionConfig()
    """Before the adversarial stage: the student learns the teacher's images from their noise."""
    reuse: Path | None = None
    """Another student's folder, of the same teacher, whose pairs and regression are taken over, of
    a regression of other settings or for other steps the pairs alone; none: both are made."""
    real: Literal["teacher", "data"] = "teacher"
    """What the heads take for real: the teacher's images, or the data's."""
    data: Annotated[
        OwnDataConfig | ShapesConfig | DigitsConfig | FolderConfig | HubConfig,
        Field(discriminator="kind"),
        default_kind("own"),
    ] = OwnDataConfig()
    """Images taken for real, with real data, all of one size: centre crops."""
    heads: HeadsConfig = HeadsConfig()
    """Discriminators."""
    timestep_shift: float | None = Field(default=None, gt=0, le=1)
    """The student is told the time S t in the place of t, as released: NitroSD-Realism 0.25,
    Vibrant 0.5; none: 1 but for a DDPM model of eps, 0.25 [dimensionless]."""
    steps: Annotated[Literal[1, 2, 4], ReadNumber] = 4
    """Most steps the student shall draw with: it is trained for 1, then for 2 too, then for 4."""
    one_step: float = Field(default=0.5, gt=0, le=1)
    """Share of the adversarial stage that trains one step alone; each further number of steps joins
    after an equal part of the rest [0 to 1]."""
    optimizer: Annotated[
        StudentAdamWConfig | MuonConfig, Field(discriminator="kind"), default_kind("adamw")
    ] = StudentAdamWConfig()
    """Optimiser of the student in the adversarial stage."""
    schedule: ScheduleConfig = ScheduleConfig()
    """Learning rate over time."""
    ema: ConstantEMAConfig = ConstantEMAConfig()
    """Averaged weights."""
    train: StudentLoopConfig = StudentLoopConfig()
    """Loop of the adversarial stage."""
    score: ScoreConfig = ScoreConfig()
    """Scores of the checkpoints."""
    device: Device = "auto"
    """Where to compute; auto: a GPU if there is one."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Seed of the heads, the noise and the data order; pairs that are taken over keep theirs."""
    out: Path | None = None
    """Folder of the student; none: RUN-nitro beside the teacher's. Running the same command again
    resumes what it holds."""

    def problems(self) -> Iterator[str]:
        """Yield mistakes across fields, on the disk and beside the model's own files."""
        yield from self.train.problems()
        for problem in self.regression.train.problems():
            yield f"regression.{problem}"
        yield from device_problems(self.device, "train.precision", self.train.precision == "bf16")
        for problem in extractor_problems(self.score.extractor):
            yield f"score.extractor.{problem}"
        if self.regression.train.precision != self.train.precision:
            yield (
                f"regression.train.precision: {self.regression.train.precision}, but "
                f"train.precision is {self.train.precision}; both stages compute alike"
            )
        if self.one_step == 1 and self.steps > 1:
            yield (
                f"one_step: 1 leaves no image to courses of up to {self.steps} steps; give less, "
                "or --steps 1"
            )
        if self.heads.unconditional and not self.heads.local:
            yield "heads.unconditional: these heads see crops; without heads.local give it as false"
        yield from self._own_problems()

    def _own_problems(self) -> Iterator[str]:
        try:
            source = resolve(self.source)
            if source.distilled is not None:
                yield f"source: {self.source} is distilled itself; give its teacher"
                return
            yield from vae_problems(source, self.source, self.vae)
            yield from place_problems(self.place(source))
            yield from pair_problems(self.pairs, source)
            yield from count_problems(self.pairs, self.score, source)
            yield from head_problems(self.heads, source)
            yield from self._data_problems(source)
        except UserError as error:
            yield str(error)

    def _data_problems(self, source: Source) -> Iterator[str]:
        own = isinstance(self.data, OwnDataConfig)
        if self.real == "teacher":
            if not own:
                yield "data: has no effect with real teacher; give --real data"
            return
        data = self.pictures(source)
        yield from data.problems()
        if source.latent is None and source.in_channels == 1:
            yield f"source: {self.source} is a model of 1 channel, but pictures have 3"
        if parse_size(data.size) != source.sample_size:
            trained = "x".join(map(str, source.sample_size))
            yield f"data.size: {data.size}, but the model was trained at {trained}"

    def pictures(self, source: Source) -> DataConfig:
        """The data of real images.

        Raises:
            UserError: the teacher is in no run folder that would tell its own.
        """
        if not isinstance(self.data, OwnDataConfig):
            return self.data
        run = run_folder(source)
        if run is None:
            raise UserError(
                f"data.kind: {self.source} is in no run folder that would tell its pictures; "
                "give some, for example --data.kind folder --data.path DIR"
            )
        return pictures_of(load(TrainConfig, run / "config.yaml").data, self.source)

    def place(self, source: Source) -> Path:
        """The student's folder.

        Raises:
            UserError: the teacher is one of the hub and no folder is given.
        """
        if self.out is not None:
            return self.out
        if run_folder(source) is None and not Path(self.source).exists():
            raise UserError(f"out: {self.source} is a model of the hub; give a folder")
        teacher = Path(os.path.normpath((run_folder(source) or source.pipeline).absolute()))
        return teacher.with_name(f"{teacher.name}-nitro")

    def settled(self, source: Source) -> "NitroConfig":
        """With what it leaves to the source."""
        shift = self.timestep_shift
        if shift is None:
            shift = RELEASED_SHIFT if source.prediction == "eps" else 1.0
        return self.model_copy(update={"timestep_shift": shift, "out": self.place(source)})

    @property
    def counts(self) -> tuple[int, ...]:
        """Numbers of steps the student learns to draw with, ascending."""
        return tuple(count for count in (1, 2, 4) if count <= self.steps)

    @property
    def courses(self) -> list[tuple[int, int]]:
        """(images, steps): from how many images seen on each number of steps is trained."""
        later = self.counts[1:]
        first, images = self.one_step * self.train.images, self.train.images
        part = (images - first) / max(1, len(later))
        return [(0, 1), *((round(first + k * part), n) for k, n in enumerate(later))]

    @property
    def times(self) -> list[float]:
        """Times between of all courses, descending: 3/4, 1/2, 1/4."""
        between = {1 - k / n for n in self.counts for k in range(1, n)}
        return sorted(between, reverse=True)

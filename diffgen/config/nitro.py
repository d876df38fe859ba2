"""The configuration of ``train/nitro.py``."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from pydantic_settings import CliPositionalArg

from diffgen.config.base import ReadNumber, Section, default_kind
from diffgen.config.beside import OwnDataConfig
from diffgen.config.data import DigitsConfig, FolderConfig, ShapesConfig
from diffgen.config.ema import ConstantEMAConfig
from diffgen.config.extractor import ExtractorConfig
from diffgen.config.guide import guidance_problems
from diffgen.config.hub import HubConfig
from diffgen.config.networks import extractor_problems
from diffgen.config.optimizer import AdamWConfig, MuonConfig, ScheduleConfig
from diffgen.config.places import run_folder
from diffgen.config.process import solver_problems
from diffgen.config.sampling import Device, SamplingConfig, device_problems
from diffgen.config.source import Source, resolve, size_problems, vae_problems
from diffgen.config.stored import read_json
from diffgen.config.train import LoopConfig, unwritable
from diffgen.errors import UserError

Level = Annotated[float, Field(gt=0, lt=1)]
Decay = Annotated[float, Field(ge=0, lt=1)]


RELEASED_SHIFT = 0.25
"""Of NitroSD-Realism."""


class PairsConfig(SamplingConfig):
    """The teacher's images, drawn once and kept."""

    count: int = Field(default=8_000, ge=1)
    """Images drawn from the teacher, each with its noise and class [count]."""
    steps: int = Field(default=25, ge=1)
    """Steps from noise to image [count]."""


class RegressionMuonConfig(MuonConfig):
    """Muon on the blocks' matrices, AdamW on the rest."""

    lr: float = Field(default=2e-3, gt=0)
    """Peak learning rate of AdamW."""


class RegressionLoopConfig(LoopConfig):
    """The loop of the regression. Everything that passes is counted in images seen."""

    images: int = Field(default=24_000, ge=1)
    """Length of the training [images seen]."""
    batch_size: int = Field(default=32, ge=1)
    """Images an optimiser step sees, over all processes and accumulation [images]."""
    clip_norm: float = Field(default=1.0, ge=0)
    """Largest norm of the gradient; 0: unclipped."""


class RegressionConfig(Section):
    """The student's beginning: squared error to the teacher's images."""

    later: float = Field(default=0.25, ge=0, lt=1)
    """Share of the images that are met at the times between of courses of several steps, noised
    from the teacher's image; the others start from its noise [0 to 1]."""
    optimizer: Annotated[
        RegressionMuonConfig | AdamWConfig, Field(discriminator="kind"), default_kind("muon")
    ] = RegressionMuonConfig()
    """Optimiser."""
    schedule: ScheduleConfig = ScheduleConfig()
    """Learning rate over time."""
    ema: ConstantEMAConfig = ConstantEMAConfig()
    """Averaged weights."""
    train: RegressionLoopConfig = RegressionLoopConfig()
    """Training loop."""


class HeadsConfig(Section):
    """The dynamic pool of discriminator heads."""

    pool: int = Field(default=480, ge=1)
    """Heads, dealt out evenly to noise levels, types of head and taps; what is left over is not
    made [count]."""
    by_level: bool = True
    """Every noise level has heads of its own, as in NitroFusion; no: all levels share the pool."""
    share: int = Field(default=4, ge=1)
    """Heads drawn for an iteration of those with one level, type and tap [count]."""
    refresh: float = Field(default=0.01, ge=0, le=1)
    """Probability that a head begins anew at an iteration, an optimiser step [0 to 1]."""
    levels: list[Level] = Field(default=[0.01, 0.05, 0.1, 0.25], min_length=1)
    """Noise levels at which images are judged, one an iteration [diffgen's time: 0 clean, 1 noise].
    NitroFusion: steps 10, 250, 500 and 750 of 1000; the more a student has learnt already, the
    less its images differ under much noise."""
    local: bool = True
    """A third of the heads sees crops, told the class."""
    unconditional: bool = True
    """A third sees crops, not told the class."""
    local_side: float = Field(default=0.5, gt=0, le=1)
    """Side of a crop [share of the image's]."""
    channels: int = Field(default=16, ge=1)
    """Channels that features are reduced to [count]."""
    convolutions: int = Field(default=2, ge=0)
    """Convolutions of stride 2 in a head; fewer where they would leave a single place [count]."""
    loss: Literal["linear", "hinge", "softplus"] = "hinge"
    """Adversarial loss; linear: as NitroFusion prints it, unbounded."""
    r1: float = Field(default=0.0, ge=0)
    """Weight of the R1 penalty on the heads' gradients by the features of real images; 0: none."""
    lr: float = Field(default=5e-3, gt=0)
    """Learning rate of Adam for the heads, high as their lives are short."""
    betas: tuple[Decay, Decay] = (0.5, 0.99)
    """Decay rates of its first and second moment [0 to 1]."""


class StudentAdamWConfig(AdamWConfig):
    """AdamW on every parameter."""

    lr: float = Field(default=1e-4, gt=0)
    """Peak learning rate of AdamW."""
    betas: tuple[Decay, Decay] = (0.0, 0.99)
    """AdamW's decay rates of the first and second moment [0 to 1]."""


class StudentLoopConfig(LoopConfig):
    """The adversarial loop. Everything that passes is counted in images seen."""

    images: int = Field(default=24_000, ge=1)
    """Length of the training [images seen]."""
    batch_size: int = Field(default=8, ge=1)
    """Images an optimiser step sees, over all processes and accumulation [images]. Heads live for
    so many steps: small batches let them learn more."""
    clip_norm: float = Field(default=1.0, ge=0)
    """Largest norm of the gradient; 0: unclipped."""
    sample_images: int = Field(default=4_000, ge=0)
    """Draw a preview this often; 0: never [images seen]."""
    checkpoint_images: int = Field(default=2_000, ge=1)
    """Save and score a checkpoint this often; the best is what the pipeline holds [images seen]."""


class ScoreConfig(Section):
    """How checkpoints are compared: images of every number of steps against the teacher's."""

    count: int = Field(default=1_000, ge=100)
    """Images drawn, and images of the teacher they are compared with [count]."""
    extractor: ExtractorConfig = ExtractorConfig(name="reader")
    """Network whose features are compared."""
    collapse: float = Field(default=0.5, ge=0, lt=1)
    """Stop where the variance of the images within a class falls below this share of what it was
    at the beginning of the second stage, or rises above the inverse; 0: never."""


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
    """First stage: the student learns the teacher's images from their noise."""
    reuse: Path | None = None
    """Another student's folder, of the same teacher, whose pairs and regression are taken over, of
    a regression of other settings the pairs alone; none: both are made."""
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
    """Share of the second stage that trains one step alone; of the rest, each further number of
    steps joins after an equal part [0 to 1]."""
    optimizer: Annotated[
        StudentAdamWConfig | MuonConfig, Field(discriminator="kind"), default_kind("adamw")
    ] = StudentAdamWConfig()
    """Optimiser of the student in the second stage."""
    schedule: ScheduleConfig = ScheduleConfig()
    """Learning rate over time."""
    ema: ConstantEMAConfig = ConstantEMAConfig()
    """Averaged weights."""
    train: StudentLoopConfig = StudentLoopConfig()
    """Adversarial training loop, the second stage."""
    score: ScoreConfig = ScoreConfig()
    """Scores of the checkpoints."""
    device: Device = "auto"
    """Where to compute; auto: a GPU if there is one."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Seed of the pairs' noise, heads, draws and data order."""
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
            yield from unwritable("out", self.place(source))
            yield from self._pair_problems(source)
            yield from self._data_problems(source)
        except UserError as error:
            yield str(error)

    def _pair_problems(self, source: Source) -> Iterator[str]:
        pairs = self.pairs
        yield from solver_problems(
            "pairs.", pairs.scheduler, pairs.steps, pairs.time_shift, source.process
        )
        if pairs.scheduler in ("ddpm", "lcm"):
            yield (
                f"pairs.scheduler: {pairs.scheduler} adds noise on the way, but images must "
                "follow from the noise they begin with"
            )
        for problem in guidance_problems(pairs, source, []):
            yield f"pairs.{problem}"

    def _data_problems(self, source: Source) -> Iterator[str]:
        own = isinstance(self.data, OwnDataConfig)
        if self.real == "teacher":
            if not own:
                yield "data: has no effect with real teacher; give --real data"
            return
        if isinstance(self.data, OwnDataConfig):
            if run_folder(source) is None:
                yield (
                    f"data.kind: {self.source} is in no run folder that would tell its pictures; "
                    "give some, for example --data.kind folder --data.path DIR"
                )
            return
        yield from self.data.problems()
        yield from size_problems("data.size", [self.data.size], source)

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
            shift = RELEASED_SHIFT if _predicts_eps(source) else 1.0
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


def _predicts_eps(source: Source) -> bool:
    file = source.pipeline / "transformer" / "config.json"
    settings = read_json(file, "source", f"{file} is missing")
    return source.diffusers or settings.get("prediction") == "eps"

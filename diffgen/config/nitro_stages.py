"""The stages of a distillation, each with the settings of its own."""

from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from diffgen.config.base import Section, default_kind
from diffgen.config.ema import ConstantEMAConfig
from diffgen.config.extractor import ExtractorConfig
from diffgen.config.loop import LoopConfig
from diffgen.config.optimizer import AdamWConfig, Decay, MuonConfig, ScheduleConfig
from diffgen.config.sampling import SamplingConfig

Level = Annotated[float, Field(gt=0, lt=1)]
AdversarialLoss: TypeAlias = Literal["linear", "hinge", "softplus"]
MOST_TAPS = 10
"""Places of the teacher that heads look at, as many as NitroFusion taps."""


class PairsConfig(SamplingConfig):
    """The teacher's images, drawn once and kept."""

    count: int = Field(default=8_000, ge=100)
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
    """Heads of a second type see crops, told the class."""
    unconditional: bool = True
    """Heads of a third type see crops, not told the class; a model without classes has none."""
    local_side: float = Field(default=0.5, gt=0, le=1)
    """Side of a crop [share of the image's]."""
    channels: int = Field(default=16, ge=1)
    """Channels that features are reduced to [count]."""
    convolutions: int = Field(default=2, ge=0)
    """Convolutions of stride 2 in a head; fewer where they would leave a single place [count]."""
    loss: AdversarialLoss = "hinge"
    """Adversarial loss; linear: as NitroFusion prints it, unbounded."""
    r1: float = Field(default=0.0, ge=0)
    """Weight of the R1 penalty on the heads' gradients by the features of real images; 0: none."""
    lr: float = Field(default=5e-3, gt=0)
    """Learning rate of Adam for the heads, high as their lives are short."""
    betas: tuple[Decay, Decay] = (0.5, 0.99)
    """Decay rates of its first and second moment [0 to 1]."""


class StudentAdamWConfig(AdamWConfig):
    """AdamW on every parameter."""

    lr: float = Field(default=1e-5, gt=0)
    """Peak learning rate of AdamW."""
    betas: tuple[Decay, Decay] = (0.0, 0.99)
    """AdamW's decay rates of the first and second moment [0 to 1]."""


class StudentLoopConfig(LoopConfig):
    """The adversarial loop. Everything that passes is counted in images seen."""

    images: int = Field(default=24_000, ge=1)
    """Length of the training [images seen]. Where it is changed to go on longer, courses of several
    steps begin elsewhere too: see one_step."""
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
    at the beginning of the adversarial stage, or rises above the inverse; 0: never."""

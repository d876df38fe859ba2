"""The configuration of ``train/joint.py``."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from diffgen.config.base import Section, default_kind
from diffgen.config.beside import BesideAdamWConfig, BesideConfig, BesideLoopConfig
from diffgen.config.optimizer import MuonConfig
from diffgen.config.places import joint_folder
from diffgen.config.source import Source

Projection = Literal["shared", "fused"]


class IndependentTimes(Section):
    """Both times uniform, whatever the other is (UniCon)."""

    kind: Literal["independent"] = "independent"
    """Training times of image and condition."""
    clean: float = Field(default=0.4, ge=0, le=1)
    """Share of the pairs of which one, image or condition, is not noised at all, so that the other
    learns from a given one [0 to 1]; UniCon: 0."""


class CorrelatedTimes(Section):
    """Half of the pairs at one common time, else one of the two little noised (JointDiT)."""

    kind: Literal["correlated"] = "correlated"
    """Training times of image and condition."""


class JointMuonConfig(MuonConfig):
    """Muon on the matrices of the blocks, AdamW on the rest."""

    lr: float = Field(default=2e-3, gt=0)
    """Peak learning rate of AdamW."""


class JointLoopConfig(BesideLoopConfig):
    """The training loop. Everything that passes is counted in images seen."""

    images: int = Field(default=98_304, ge=1)
    """Length of the training [images seen]."""
    batch_size: int = Field(default=16, ge=1)
    """Images an optimiser step sees, over all processes and accumulation [images]."""


class JointConfig(BesideConfig):
    """Train an adapter with which a trained model draws images and pictures of their condition
    jointly, and each from the other (UniCon). The model itself stays as it is."""

    pair: str = "depth"
    """What an image is paired with: edge, mask, stroke, palette, depth or outline where the data
    has it, MODULE:NAME, a Condition of your own, or folder, pictures in a folder beside."""
    pair_path: Path | None = None
    """Folder of the pictures that images are paired with, below it named as those in data.path;
    needed with pair folder."""
    pair_name: str | None = None
    """What these pictures are called in commands, with pair folder; none: as the folder."""
    rank: int | None = Field(default=None, ge=1)
    """Rank of the LoRAs of the joint attention, one of each direction; none: a sixteenth of the
    model's width, or as much less as keeps the adapter to 15 % of the model's parameters."""
    condition_rank: int | None = Field(default=None, ge=0)
    """Rank of the LoRA in the self-attention of the condition; 0: none of it; none: as rank."""
    every: int = Field(default=1, ge=1)
    """Joint attention in every so many blocks, the last one among them [blocks]."""
    projection: Projection = "shared"
    """Of what the joint attention finds: one map for both branches, or one of both together."""
    projection_rank: int | None = Field(default=None, ge=1)
    """Rank of that map; none: in full."""
    class_dropout: float = Field(default=0.1, ge=0, le=1 / 3)
    """Share of pairs of which the image alone is not told its class; of as many the condition alone
    is not, and of as many both [0 to 1/3]."""
    times: Annotated[
        IndependentTimes | CorrelatedTimes,
        Field(discriminator="kind"),
        default_kind("independent"),
    ] = IndependentTimes()
    """Training times of image and condition."""
    joint_dropout: float = Field(default=0.1, ge=0, le=1)
    """Share of pairs without joint attention, which condition guidance compares with [0 to 1]."""
    min_snr_gamma: float = Field(default=5.0, gt=0)
    """Of a DDPM model: largest weight of the error of x0 (Hang et al. 2023) [signal to noise
    ratio]."""
    optimizer: Annotated[
        BesideAdamWConfig | JointMuonConfig, Field(discriminator="kind"), default_kind("muon")
    ] = JointMuonConfig()
    """Optimiser."""
    train: JointLoopConfig = JointLoopConfig()
    """Training loop."""

    def place(self, source: Source) -> Path:
        """RUN/joint, or PIPELINE-joint. Raises UserError: see ``joint_folder``."""
        return joint_folder(source, self.source)

    def own_problems(self, source: Source) -> Iterator[str]:
        """Yield pairs that cannot be."""
        if self.pair == "folder" and self.pair_path is None:
            yield "pair_path: pair folder needs the folder of the pictures"
        if self.pair != "folder":
            for field in ("pair_path", "pair_name"):
                if getattr(self, field) is not None:
                    yield f"{field}: {getattr(self, field)} has no effect without pair folder"

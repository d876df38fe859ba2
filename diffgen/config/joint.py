"""The configuration of ``train/joint.py``."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from diffgen.config.base import Section, default_kind
from diffgen.config.beside import BesideAdamWConfig, BesideConfig, BesideLoopConfig
from diffgen.config.constraints import name_problems
from diffgen.config.data import IMAGE_SUFFIXES, DataConfig, FolderConfig, image_files
from diffgen.config.joint_given import IMAGE, PAIRS
from diffgen.config.optimizer import MuonConfig
from diffgen.config.places import joint_folder
from diffgen.config.source import Source
from diffgen.config.stored import read_json

Projection = Literal["shared", "fused"]
FOLDER = "folder"
"""The pair that is no condition, but pictures in a folder."""
OF_JOINT = (
    *("rank", "condition_rank", "every", "projection", "projection_rank"),
    *("times", "joint_dropout"),
)
"""Options that only method joint heeds."""
CHANNELS_SUFFIX = "-channels"
"""Of the folder's name, with method channels."""


class IndependentTimes(Section):
    """Each time drawn whatever the other is (UniCon), the condition's uniformly."""

    kind: Literal["independent"] = "independent"
    """Training times of image and condition."""
    uniform: float = Field(default=0.5, ge=0, le=1)
    """Share of the images whose times are uniform [0 to 1]; UniCon: 1. The others' are drawn as in
    the model's own training, as its run folder tells, else logit-normal of mean 0.8 and deviation
    1; of a DDPM model its steps alike."""
    clean: float = Field(default=0.5, ge=0, le=1)
    """Share of the pairs of which one, image or condition, is not noised at all, so that the other
    learns from a given one [0 to 1]; UniCon: 0."""


class CorrelatedTimes(Section):
    """Half of the pairs at one common time, else one of the two little noised: JointDiT's shares,
    without its noise-aware weights of the joint attention."""

    kind: Literal["correlated"] = "correlated"
    """Training times of image and condition."""


class JointMuonConfig(MuonConfig):
    """Muon on the matrices of the blocks, nearly everything there is, AdamW on the rest."""

    muon_lr: float = Field(default=0.02, gt=0)
    """Peak learning rate of Muon, which trains nearly everything: the one to turn."""
    lr: float = Field(default=2e-3, gt=0)
    """Peak learning rate of AdamW; with Muon and method joint of the modality vector alone."""


class JointLoopConfig(BesideLoopConfig):
    """The training loop. Everything that passes is counted in images seen."""

    batch_size: int = Field(default=16, ge=1)
    """Images an optimiser step sees, over all processes and accumulation [images]."""


class JointConfig(BesideConfig):
    """Train an adapter with which a trained model draws images and pictures of their condition
    jointly, and each from the other (UniCon). The model itself stays as it is."""

    pair: str = "depth"
    """What an image is paired with: edge, mask, stroke, palette, depth or outline where the data
    has it, MODULE:NAME, a Condition of your own, or folder, pictures of any kind in pair_path."""
    pair_path: Path | None = None
    """Folder of the pictures that images are paired with, or of their maps (as sample/joint.py
    reads and writes them), below it named as the images in data.path, suffix apart, and as large;
    only with data of kind folder; none: maps are the data's own, or found in the images."""
    pair_name: str | None = None
    """What these pictures are called in commands, of letters, digits, _ and -; only with pair
    folder; none: as the folder."""
    method: Literal["joint", "channels"] = "joint"
    """joint: adapters on the frozen model; channels, to compare with: a copy of the model that gets
    the clean condition in as many input channels again and is trained whole, so that it draws
    images of a condition, and nothing else. It lies in a folder NAME-channels."""
    rank: int | None = Field(default=None, ge=1)
    """Rank of the LoRAs of the joint attention, one of each direction; none: 1/32 of the model's
    width."""
    condition_rank: int | None = Field(default=None, ge=0)
    """Rank of the LoRA in the self-attention of the condition; 0: none of it; none: as rank."""
    every: int = Field(default=1, ge=1)
    """Joint attention in every so many blocks, the last one among them [blocks]."""
    projection: Projection = "fused"
    """Of what the joint attention finds: shared, one map for both branches; fused, one of both
    side by side, four times as large in full."""
    projection_rank: int | None = Field(default=None, ge=0)
    """Rank of that map; 0: in full; none: half the model's width, or as much less as keeps the
    adapter to 15 % of the model's parameters."""
    class_dropout: float = Field(default=0.1, ge=0, le=1 / 3)
    """Share of pairs of which the image alone is not told its class; of as many the condition alone
    is not, and of as many both; with method channels of the images not told theirs [0 to 1/3]."""
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
    ratio, alpha^2 / sigma^2]."""
    optimizer: Annotated[
        JointMuonConfig | BesideAdamWConfig, Field(discriminator="kind"), default_kind("muon")
    ] = JointMuonConfig()
    """Optimiser."""
    train: JointLoopConfig = JointLoopConfig()
    """Training loop."""
    out: Path | None = None
    """Folder of what is trained; none: joint/NAME in the model's run folder, or where there is no
    run PIPELINE-joint/NAME beside its pipeline folder. Running the same command again resumes what
    it holds."""

    def place(self, source: Source) -> Path:
        """RUN/joint, or PIPELINE-joint. Raises UserError: see ``joint_folder``."""
        return joint_folder(source, self.source)

    @property
    def called(self) -> str:
        """What the pictures of a folder are called."""
        return self.pair_name or (self.pair_path or Path()).resolve().name

    def own_problems(self, source: Source) -> Iterator[str]:
        """Yield pairs that cannot be, and numbers beyond the model's."""
        if self.pair == FOLDER:
            yield from self._name_problems()
        else:
            yield from name_problems("pair", self.pair, (*PAIRS, FOLDER))
            if self.pair_name is not None:
                yield f"pair_name: {self.pair_name} has no effect without pair folder"
        if self.pair_path is not None:
            yield from self._folder_problems(self.pair_path, self._pictures(source))
        if self.method == "channels":
            for field in OF_JOINT:
                if getattr(self, field) != type(self).model_fields[field].default:
                    yield f"{field}: has no effect with method channels"
        default = type(self).model_fields["min_snr_gamma"].default
        if source.process.kind == "flow" and self.min_snr_gamma != default:
            yield f"min_snr_gamma: {self.min_snr_gamma:g} has no effect on a flow model"
        yield from self._size_problems(source)

    def _name_problems(self) -> Iterator[str]:
        """Yield why pictures in a folder cannot be called so."""
        if self.pair_path is None:
            yield "pair_path: pair folder needs the folder of the pictures"
        elif self.called in PAIRS:
            yield (
                f"pair_name: {self.called!r} means maps here; if these are such, give --pair "
                f"{self.called}, else another --pair-name"
            )
        elif self.called == IMAGE or not re.fullmatch(r"[\w-]+", self.called):
            why = "means something else" if self.called == IMAGE else "is no name"
            yield (
                f"pair_name: {self.called!r} {why} here; give another --pair-name, of letters, "
                "digits, _ and -"
            )
        elif self.called.endswith(CHANNELS_SUFFIX):
            yield (
                f"pair_name: {self.called!r} ends as the folders of method channels do; give "
                "another --pair-name"
            )

    def _folder_problems(self, folder: Path, data: DataConfig) -> Iterator[str]:
        """Yield what is wrong with a folder of pictures, beside those it shall go with."""
        if not isinstance(data, FolderConfig):
            yield f"pair_path: needs data.kind folder, but the data is of kind {data.kind}"
        elif folder.is_dir() and data.path.is_dir() and folder.samefile(data.path):
            yield f"pair_path: {folder} is data.path itself"
        if not folder.is_dir():
            yield f"pair_path: {folder} {'is no folder' if folder.exists() else 'does not exist'}"
        elif next(image_files(folder), None) is None:
            yield f"pair_path: {folder} holds no images ({', '.join(sorted(IMAGE_SUFFIXES))})"

    def _size_problems(self, source: Source) -> Iterator[str]:
        """Yield ranks beyond the model's width, and steps beyond its depth."""
        file = source.pipeline / "transformer" / "config.json"
        model = read_json(file, "source", f"{file} is missing")
        depth = model.get("num_layers" if source.diffusers else "depth", self.every)
        if self.every > depth:
            yield f"every: {self.every} is more than the model's {depth} blocks"
        width = model.get("hidden_size")
        if source.diffusers:
            width = model["num_attention_heads"] * model["attention_head_dim"]
        if width is None:
            return
        both = width * (2 if self.projection == "fused" else 1)
        ranks = {"rank": width, "condition_rank": width, "projection_rank": both}
        for field, most in ranks.items():
            if (getattr(self, field) or 0) > most:
                yield f"{field}: {getattr(self, field)} is more than the {most} channels it maps"

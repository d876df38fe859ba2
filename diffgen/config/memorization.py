"""The configuration of ``eval/memorization.py``."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from diffgen.config.base import default_kind
from diffgen.config.data import DigitsConfig, FolderConfig, ShapesConfig
from diffgen.config.images import FittedConfig
from diffgen.config.process import FlowConfig
from diffgen.config.train import TrainConfig, unwritable

Count = Annotated[int, Field(ge=1)]
Level = Annotated[float, Field(gt=0, le=1000)]
Images = ShapesConfig | DigitsConfig | FolderConfig
Which = Literal["a", "b"]
OTHER = 2**31
"""Between the seeds of two models, so that a run with the next seed shares none of them."""
UNMEASURED: dict[str, Any] = {
    **dict.fromkeys(("out", "counts", "device", "track", "report"), True),
    "train": dict.fromkeys(
        ("workers", "log_images", "sample_images", "checkpoint_images", "keep_checkpoints"), True
    ),
}
"""Fields that change no figure of a number of training images."""
WHICH: tuple[Which, Which] = ("a", "b")


class MemorizationConfig(TrainConfig):
    """Train pairs of models on disjoint sets of N images, and measure what they have memorised.

    The recipe is that of a training, the same for every N. Trainings and figures that are there
    already are kept: the same command goes on where it was stopped.
    """

    out: Path = Path("memorization")
    """Folder for memorization.json, table.md, the pictures, the figures and the runs."""
    data: Annotated[Images, Field(discriminator="kind"), default_kind("shapes")] = ShapesConfig()
    """Where the images of every training come from."""
    process: FlowConfig = FlowConfig()
    """Noising process."""
    counts: list[Count] = Field(default=[4, 64, 1024, 16_384])
    """Training images N of each of two models, separated by commas [count]."""
    num_images: int = Field(default=256, ge=2)
    """Images drawn from each model, from the same noise [count]."""
    num_noisy: int = Field(default=256, ge=2)
    """Noisy images denoised a level, of the training set and of those held out [count]."""
    sigmas: list[Level] = Field(default=[0.25, 0.5, 1.0, 2.0, 4.0])
    """Noise levels, separated by commas: standard deviation, where a pixel is in [-1, 1]."""
    jacobians: int = Field(default=4, ge=1)
    """Held-out images whose Jacobians are computed a level, no more than num_noisy [count]."""
    probes: int = Field(default=16, ge=2)
    """Random sign vectors for the estimated trace of a Jacobian [count]."""
    pictures: int = Field(default=12, ge=1)
    """Samples of each model that the picture grid shows, the first ones [count]."""

    def columns(self) -> list[int]:
        """The numbers of training images, ascending."""
        return sorted(self.counts)

    def levels(self) -> list[float]:
        """The noise levels, ascending."""
        return sorted(self.sigmas)

    def settings(self) -> dict[str, Any]:
        """What decides the figures of a number of training images."""
        return self.model_dump(mode="json", exclude=UNMEASURED)

    def seeds(self) -> tuple[int, int]:
        """The seeds of the trainings of a and b."""
        return self.seed, (self.seed + OTHER) % 2**32

    def part(self, start: int, stop: int) -> Images:
        """Images ``start`` to ``stop`` of the data; of stored ones after a shuffle.

        Those of a folder lie by class, and digits by writer.
        """
        changes: dict[str, Any] = {"subset": f"{start}:{stop}"}
        if not isinstance(self.data, ShapesConfig):
            changes["subset_seed"] = self.seed
        return self.data.model_copy(update=changes)

    def training(self, which: Which, count: int, start: int) -> TrainConfig:
        """The training of one of two models, on ``count`` images from number ``start`` on.

        Both have their own seed: they share no weight, no order and no noise.
        """
        values = self.model_dump(include=set(TrainConfig.model_fields))
        values["out"] = self.out / "runs" / f"{count}-{which}"
        values["seed"] = self.seeds()[WHICH.index(which)]
        values["data"] = self.part(start, start + count).model_dump()
        values["model"]["num_classes"] = 0
        values["train"]["sample_images"] = 0
        values["report"] = {"sizes": [self.data.size], "num_images": 0}
        return TrainConfig.model_validate(values)

    def problems(self) -> Iterator[str]:
        """Yield mistakes of the recipe and of what is measured."""
        for field in ("counts", "sigmas"):
            given = getattr(self, field)
            if not given:
                yield f"{field}: give at least one"
            if len(set(given)) < len(given):
                yield f"{field}: {given} names one twice"
        for field in ("jacobians", "pictures"):
            most = "num_noisy" if field == "jacobians" else "num_images"
            if getattr(self, field) > getattr(self, most):
                yield f"{field}: {getattr(self, field)} is more than {most} {getattr(self, most)}"
        wrong = [*unwritable("out", self.out), *self._recipe_problems()]
        yield from wrong
        if not wrong:
            yield from self.training("a", 1, 0).problems()

    def _recipe_problems(self) -> Iterator[str]:
        """What would blur which images a model was trained on, or is not measured."""
        data = self.data
        if data.subset is not None:
            yield f"data.subset: {data.subset} is chosen by counts; leave it out"
        if not isinstance(data, ShapesConfig) and data.subset_seed is not None:
            yield f"data.subset_seed: {data.subset_seed} is chosen by seed; leave it out"
        if isinstance(data, FolderConfig) and data.classes:
            yield (
                f"data.classes: {', '.join(data.classes)}, but the models know no classes, and a "
                "small set may lack one; name the images with data.files"
            )
        if isinstance(data, FittedConfig) and data.crop != "center":
            yield f"data.crop: {data.crop} would blur which images were trained on; use center"
        if isinstance(data, FolderConfig) and data.flip:
            yield "data.flip: mirrored images would blur which were trained on; give --no-data.flip"
        if isinstance(data, FolderConfig) and data.on_error == "skip":
            yield "data.on_error: skip would leave sets of unknown size; mend or remove the images"
        if self.model.num_classes:
            yield (
                f"model.num_classes: {self.model.num_classes}, but the models know no classes; "
                "leave it out"
            )
        if self.vae is not None:
            yield "vae: models of latents are not measured, only those of pixels"
        if self.init is not None:
            yield "init: the models must have seen nothing but their own images; leave it out"

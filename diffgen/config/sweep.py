"""What the configurations of sweeps share: a model, scored in every cell of a table."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import Field
from pydantic_settings import CliPositionalArg

from diffgen.config.base import Size
from diffgen.config.evaluate import EvaluateConfig
from diffgen.config.pictures import is_image_folder, is_npz
from diffgen.config.sampling import Device, Dtype, WalkConfig
from diffgen.config.scoring import ScoringConfig
from diffgen.config.train import unwritable

Scale = Annotated[float, Field(ge=0, le=1e6)]
Seed = Annotated[int, Field(ge=0)]
Evaluation = TypeVar("Evaluation", bound=EvaluateConfig)


class SweepConfig(WalkConfig, ScoringConfig):
    """A model, scored in every cell of a table."""

    source: CliPositionalArg[str]
    """Run folder, pipeline folder or hub id of the model."""
    seeds: list[Seed] = Field(default=[0])
    """Image k of a seed starts from the noise of (seed, k), the same for every cell; with several,
    intervals are over seeds."""
    vae: str | None = None
    """Folder or hub id of the VAE that decodes a model of latents; none: the one it comes with."""
    size: Size | None = None
    """HEIGHTxWIDTH everything is drawn at [pixels]; none: as trained."""
    pictures: int = Field(default=4, ge=1, le=64)
    """Images of every cell that the picture grid shows, the first ones [count]."""
    device: Device = "auto"
    """Where to compute; auto: a GPU if there is one."""
    dtype: Dtype = "fp32"
    """Arithmetic of the model; bf16 needs a GPU."""
    out: Path = Path("sweep")
    """Folder for sweep.json, sweep.md, plot.png, grid.png and the cells."""

    def evaluation(self, schema: type[Evaluation], **more: Any) -> Evaluation:
        """The evaluation that fills a cell: ``more``, and for the rest what the sweep says."""
        names = set(EvaluateConfig.model_fields) - {"out"} - more.keys()
        return schema(**self.model_dump(include=names), **more)

    def shared_problems(
        self, field: str, titles: Sequence[str], scales: Sequence[float]
    ) -> Iterator[str]:
        """Yield mistakes of the fields above, and cells that would share a file.

        Args:
            field: the option that gives the table's blocks.
            titles: theirs.
            scales: of the cells.
        """
        stems = [stem(title) for title in titles]
        for name in dict.fromkeys(one for one in stems if stems.count(one) > 1):
            yield f"{field}: two are called {name!r}; give one a name"
        if len({f"{scale:g}" for scale in scales}) < len(scales):
            yield f"scales: {scales} holds two that are the same to six digits"
        if not self.seeds:
            yield "seeds: give at least one"
        if len(set(self.seeds)) < len(self.seeds):
            yield f"seeds: {self.seeds} names one twice, which would narrow the intervals"
        yield from unwritable("out", self.out)
        if is_npz(self.source) or is_image_folder(self.source):
            yield f"source: {self.source} holds pictures; a sweep draws them from a model"


def stem(title: str) -> str:
    """A title, fit for a file."""
    return re.sub(r"[^\w.+-]+", "_", title)[:150]

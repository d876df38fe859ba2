"""The configuration of ``train/lacon.py``."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from diffgen.config.beside import BesideAdamWConfig, BesideConfig
from diffgen.config.places import aligners_folder
from diffgen.config.source import Source
from diffgen.config.stored import read_json

Fusion = Literal["concat", "mix"]


def _distinct(blocks: list[int]) -> list[int]:
    if len(set(blocks)) < len(blocks) or any(block < 0 for block in blocks):
        raise ValueError("must name every block once, counted from 0")
    return blocks


class LaconConfig(BesideConfig):
    """Train an aligner, which reads a condition from the features of a trained model, so that its
    images can be steered. The model itself stays as it is."""

    condition: str = "edge"
    """What is read: edge, mask, stroke, palette, depth where the data has it, or MODULE:NAME, a
    Condition of your own."""
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
    optimizer: BesideAdamWConfig = BesideAdamWConfig()
    """Optimiser."""
    out: Path | None = None
    """Folder of the aligner; none: aligners/CONDITION in the model's run folder, or where there is
    no run PIPELINE-aligners/CONDITION beside its pipeline folder. Running the same command again
    resumes what it holds."""

    def place(self, source: Source) -> Path:
        """RUN/aligners, or PIPELINE-aligners. Raises UserError: see ``aligners_folder``."""
        return aligners_folder(source, self.source)

    def own_problems(self, source: Source) -> Iterator[str]:
        """Yield blocks the model does not have."""
        file = source.pipeline / "transformer" / "config.json"
        model = read_json(file, "source", f"{file} is missing")
        depth = model.get("num_layers" if source.diffusers else "depth")
        if depth is not None and max(self.blocks, default=0) >= depth:
            yield (
                f"blocks: {max(self.blocks)} is none of the model's {depth}, which are 0 to "
                f"{depth - 1}"
            )

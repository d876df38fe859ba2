"""The configuration of ``sample/generate.py``."""

from collections.abc import Iterator
from pathlib import Path

from pydantic import Field
from pydantic_settings import CliPositionalArg

from diffgen.config.base import Size
from diffgen.config.constraints import ConstraintsConfig, constraint_problems
from diffgen.config.distilled import NO_CONSTRAINTS
from diffgen.config.guide import drawing_problems
from diffgen.config.sampling import (
    Device,
    Dtype,
    SamplingConfig,
    class_indices,
    device_problems,
)
from diffgen.config.source import resolve, size_problems, vae_problems
from diffgen.config.train import unwritable
from diffgen.errors import UserError


class SampleConfig(ConstraintsConfig, SamplingConfig):
    """Draw images from a trained model, at any size its patch divides."""

    source: CliPositionalArg[str]
    """Run folder, pipeline folder or hub id of the model."""
    vae: str | None = None
    """Folder or hub id of the VAE that decodes a model of latents; none: the one it comes with."""
    size: list[Size] = Field(default=[])
    """HEIGHTxWIDTH of the images [pixels]; may be given several times; none: as trained."""
    classes: list[str] = Field(default=[])
    """Class names or numbers, separated by commas, taken in turn; none given: all."""
    num_images: int = Field(default=16, ge=1)
    """Images drawn at each size [count]."""
    seed: int = Field(default=0, ge=0)
    """Image k of a size starts from the noise of (seed, k), whatever the batch size."""
    device: Device = "auto"
    """Where to compute; auto: a GPU if there is one."""
    dtype: Dtype = "fp32"
    """Arithmetic of the model; bf16 needs a GPU."""
    out: Path = Path("samples")
    """Folder for the PNGs, the contact sheets and settings.json."""

    def problems(self) -> Iterator[str]:
        """Yield mistakes that show only beside the model's own files."""
        try:
            source = resolve(self.source)
            yield from vae_problems(source, self.source, self.vae)
            yield from size_problems("size", self.size, source)
            yield from drawing_problems(self, source, self.size)
            if source.distilled and self.constraint:
                yield f"constraint: {self.constraint[0]}, but {NO_CONSTRAINTS}"
            else:
                count = self.num_images
                yield from constraint_problems(self, source, self.source, self.size, count)
            class_indices(self.classes, source)
        except UserError as error:
            yield str(error)
        except ValueError as error:
            yield f"classes: {error}"
        yield from device_problems(self.device, "dtype", self.dtype == "bf16")
        yield from unwritable("out", self.out)

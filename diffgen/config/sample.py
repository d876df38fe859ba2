"""The configuration of ``sample/generate.py``."""

from collections.abc import Iterator
from pathlib import Path

from pydantic import Field
from pydantic_settings import CliPositionalArg

from diffgen.config.base import Size
from diffgen.config.sampling import (
    Device,
    Dtype,
    SamplingConfig,
    class_indices,
    device_problems,
    size_problems,
)
from diffgen.config.source import resolve
from diffgen.config.train import unwritable
from diffgen.errors import UserError


class SampleConfig(SamplingConfig):
    """Draw images from a trained model, at any size its patch divides."""

    source: CliPositionalArg[str]
    """Run folder, pipeline folder or hub id of the model."""
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
            yield from size_problems("size", self.size, source)
            class_indices(self.classes, source)
        except UserError as error:
            yield str(error)
        except ValueError as error:
            yield f"classes: {error}"
        yield from device_problems(self.device, "dtype", self.dtype == "bf16")
        yield from unwritable("out", self.out)

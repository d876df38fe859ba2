"""The configuration of ``eval/evaluate.py``."""

from collections.abc import Iterator
from pathlib import Path

from pydantic import Field
from pydantic_settings import CliPositionalArg

from diffgen.config.base import Size
from diffgen.config.data import image_files
from diffgen.config.process import solver_problems
from diffgen.config.sampling import (
    Device,
    Dtype,
    SamplingConfig,
    device_problems,
)
from diffgen.config.source import resolve, size_problems, vae_problems
from diffgen.config.train import unwritable


def is_image_folder(source: str) -> bool:
    """True for a folder of pictures to score, as against a model to draw them with."""
    path = Path(source)
    if not path.is_dir() or (path / "model_index.json").exists():
        return False
    if (path / "config.yaml").exists() or (path / "pipeline").exists():
        return False
    return next(image_files(path), None) is not None


class EvaluateConfig(SamplingConfig):
    """Score a model, or a folder of images, against held-out real images."""

    source: CliPositionalArg[str]
    """Run folder, pipeline folder or hub id of a model, or a folder of images."""
    vae: str | None = None
    """Folder or hub id of the VAE that decodes a model of latents; none: the one it comes with."""
    reference: str = "shapes"
    """Real images: shapes or digits (their held-out split), or a folder."""
    size: Size | None = None
    """HEIGHTxWIDTH everything is drawn or read at [pixels]; none: as the model was trained."""
    num_images: int = Field(default=512, ge=8)
    """Images drawn from the model, and real ones, as far as there are so many [count]."""
    k: int = Field(default=3, ge=1)
    """Nearest neighbour that gives the radius for precision and recall [count]."""
    seed: int = Field(default=0, ge=0)
    """Seed of the drawn images' noise."""
    device: Device = "auto"
    """Where to compute; auto: a GPU if there is one."""
    dtype: Dtype = "fp32"
    """Arithmetic of the model; bf16 needs a GPU. The reader is always fp32."""
    out: Path | None = None
    """JSON file for the figures and settings; none: beside the source, evaluation-*.json."""

    def problems(self) -> Iterator[str]:
        """Yield mistakes that show only beside the model's and the reference's files."""
        if is_image_folder(self.source):
            if self.size is None:
                yield "size: needed to score a folder of images, for example --size 32x32"
        else:
            source = resolve(self.source)
            yield from vae_problems(source, self.source, self.vae)
            yield from solver_problems("", self.scheduler, self.steps, source.process)
            if self.size is not None:
                yield from size_problems("size", [self.size], source)
        if self.reference not in ("shapes", "digits"):
            folder = Path(self.reference)
            if not folder.is_dir():
                yield f"reference: {self.reference} is neither shapes, digits nor a folder"
            elif next(image_files(folder), None) is None:
                yield f"reference: {self.reference} holds no images"
        yield from device_problems(self.device, "dtype", self.dtype == "bf16")
        if self.out is not None:
            yield from unwritable("out", self.out.parent)

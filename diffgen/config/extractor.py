"""Which networks an evaluation looks through, and how pictures are brought to their size."""

from pathlib import Path

from pydantic import Field

from diffgen.config.base import Section
from diffgen.config.resizes import Resize


class ExtractorConfig(Section):
    """A network whose features are compared."""

    name: str
    """reader, inception or a timm model."""
    weights: Path | None = None
    """Its weights' file; none: downloaded by name."""
    resize: Resize | None = None
    """How pictures are brought to the network's size; none: as the network's own code does."""
    image_size: int | None = Field(default=None, ge=16)
    """Side of the square a timm model sees [pixels]; none: its own."""

    @property
    def title(self) -> str:
        """What tells it from the others of an evaluation."""
        size = None if self.image_size is None else f"{self.image_size}x{self.image_size}"
        return " ".join(part for part in (self.name, self.resize, size) if part)

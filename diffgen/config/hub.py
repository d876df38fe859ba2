"""Images from the ``datasets`` library: by name from the hub, or from local files."""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from pydantic import Field

from diffgen.config.images import StoredImagesConfig

NEEDS_DATASETS = (
    "data.kind: hub needs the datasets library; install it with: pip install 'diffgen[hub]'"
)


class HubConfig(StoredImagesConfig):
    """A dataset of the Hugging Face hub, or local parquet files, WebDataset tars or images."""

    kind: Literal["hub"] = "hub"
    """Source of the images."""
    name: str
    """Dataset on the hub (OWNER/NAME), or a local parquet or WebDataset tar file, a folder of
    either, or a folder of images. Needed with kind hub."""
    configuration: str | None = None
    """Configuration of the dataset; none: its only or default one."""
    split: str = "train"
    """Split of the dataset; slices such as train[:1000] work unless streaming."""
    revision: str | None = None
    """Branch, tag or commit on the hub; none: the newest."""
    image_column: str | None = None
    """Column of images; none: the only one of that type."""
    label_column: str | None = None
    """Column of classes; none: the only one of class type, in tars cls, or a single class if there
    is none."""
    streaming: bool = False
    """Read the dataset in order while training, for one that does not fit on the disk."""
    shuffle_buffer: int = Field(default=1000, ge=1)
    """Images a stream is shuffled among, held encoded in memory [images]; only with streaming."""

    def problems(self) -> Iterator[str]:
        """Yield a missing library, and a local path that is not there."""
        yield from super().problems()
        if find_spec("datasets") is None:
            yield NEEDS_DATASETS
        local = self.name.startswith((".", "/")) or self.name.endswith((".parquet", ".tar"))
        if local and not Path(self.name).exists():
            yield f"data.name: {self.name} does not exist"
        if self.configuration is not None and Path(self.name).is_file():
            yield f"data.configuration: {self.configuration} means nothing to a file, {self.name}"
        if self.streaming and "[" in self.split:
            yield f"data.split: {self.split} is a slice; a stream is read whole"

"""The configuration of ``diffgen ema``, and what can be said of a run's averages without torch."""

from collections.abc import Iterator
from pathlib import Path

from pydantic import Field
from pydantic_settings import CliPositionalArg

from diffgen.config.base import Section
from diffgen.config.command_line import load
from diffgen.config.ema import PowerEMAConfig, Width
from diffgen.config.status import kind_of_run
from diffgen.config.train import TrainConfig, unwritable
from diffgen.errors import UserError

FACTS = "average.json"
"""What a folder of a rebuilt average says of itself."""


class EMAAfterConfig(Section):
    """Rebuild the averaged weights of any width from a run's snapshots, as a pipeline."""

    run: CliPositionalArg[Path]
    """Run folder of a training, finished or not."""
    width: Width
    """Width of the average, a relative standard deviation [share of the training so far, 0.01 to
    0.25]."""
    images: int | None = Field(default=None, ge=1)
    """The average as it was after so many images; none: at the newest snapshot [images seen]."""
    out: Path | None = None
    """Folder for pipeline/; none: ema-WIDTH in the run folder, with images ema-WIDTH-at-IMAGES."""

    def problems(self) -> Iterator[str]:
        """Yield a folder without such a run, and one that holds something else."""
        yield from average_problems(self.run, "run")
        target = self.target()
        if target.exists() and not target.is_dir():
            yield f"out: {target} is a file; name a folder"
        elif target.exists() and not (target / FACTS).exists() and any(_entries(target)):
            yield f"out: {target} holds something else; name a new folder"
        yield from unwritable("out", target)

    def target(self) -> Path:
        """The folder that gets pipeline/."""
        if self.out is not None:
            return self.out
        time = "" if self.images is None else f"-at-{self.images}"
        return self.run / f"ema-{self.width:g}{time}"


def power_averages(run: Path, field: str) -> PowerEMAConfig:
    """The averages that the training in ``run`` keeps.

    Raises:
        UserError: ``run`` is no training, or keeps a constant average; ``field`` named it.
    """
    kind = kind_of_run(run, field)
    if kind != "train":
        raise UserError(f"{field}: {run} is a run of {kind}; only those of train keep snapshots")
    ema = load(TrainConfig, run / "config.yaml").ema
    if not isinstance(ema, PowerEMAConfig):
        raise UserError(
            f"{field}: {run} keeps a constant average, of which no other width can be made; train "
            "with --ema.kind power"
        )
    return ema


def average_problems(run: Path, field: str) -> Iterator[str]:
    """The complaint about a folder from which no average can be rebuilt."""
    try:
        power_averages(run, field)
    except UserError as error:
        yield str(error)
        return
    if not any(file.stem.isdigit() for file in run.glob("snapshots/*.safetensors")):
        yield (
            f"{field}: {run} holds no snapshots yet; the first is stored at a checkpoint, see "
            "ema.snapshots"
        )
    elif not (run / "pipeline" / "model_index.json").exists():
        yield f"{field}: {run} holds no pipeline/, which is written at the first checkpoint"


def _entries(folder: Path) -> Iterator[Path]:
    return (path for path in folder.iterdir() if path.name != ".lock")

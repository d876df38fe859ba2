"""metrics.jsonl's lines, sent to the trackers of ``track`` as well."""

from pathlib import Path
from typing import Any
from uuid import uuid4

from accelerate import Accelerator
from accelerate.tracking import LOGGER_TYPE_TO_CLASS

from diffgen.config.track import Tracker, missing_trackers
from diffgen.config.train import TrainConfig
from diffgen.errors import UserError
from diffgen.files import write_file
from diffgen.training.run_folder import flatten


def check_trackers(names: list[Tracker]) -> None:
    """Raise UserError if a package is missing, or accelerate is too old to know a tracker."""
    mistakes = list(missing_trackers(names))
    unknown = [name for name in names if name not in LOGGER_TYPE_TO_CLASS]
    mistakes += [f"track: {name} needs a newer accelerate" for name in unknown]
    if mistakes:
        raise UserError("\n".join(mistakes))


def start_trackers(config: TrainConfig, accelerator: Accelerator, seen: int) -> None:
    """Open the trackers, on the main process; those of a resumed run go on from ``seen`` images."""
    if not config.track:
        return
    options: dict[str, dict[str, Any]] = {"tensorboard": {"purge_step": seen + 1} if seen else {}}
    if "wandb" in config.track:
        name = config.out.name
        options["wandb"] = {"id": run_id(config.out), "name": name, "resume": "allow"}
    settings = {name: str(value) for name, value in flatten(config.model_dump(mode="json")).items()}
    accelerator.init_trackers("diffgen", None if seen else settings, options)


def run_id(folder: Path) -> str:
    """A name for the run that no other run has, the same whenever it is resumed."""
    file = folder / "logs" / "run-id"
    if not file.exists():
        write_file(file, lambda path: path.write_text(uuid4().hex))
    return file.read_text()


def log_scalars(accelerator: Accelerator, line: dict[str, Any]) -> None:
    """Send a line of metrics.jsonl, at its number of images seen."""
    values = {name: value for name, value in line.items() if isinstance(value, int | float)}
    rates = {f"learning_rate_{i}": rate for i, rate in enumerate(line["learning_rates"])}
    accelerator.log(values | rates, step=line["images"])


def log_measures(accelerator: Accelerator, line: dict[str, Any]) -> None:
    """Send a line of validation.jsonl, at its number of images seen."""
    accelerator.log(tracked(line), step=line["images"])


def tracked(line: dict[str, Any]) -> dict[str, float]:
    """The numbers of a line of measures under the names that trackers show."""
    values = {f"validation/{name}": line[name] for name in ("loss", "fid") if name in line}
    if "bins" in line:
        edges = zip(line["t"], line["t"][1:], strict=False)
        for (low, high), value in zip(edges, line["bins"], strict=True):
            values[f"validation/loss at t {low:.2f}-{high:.2f}"] = value
    return values

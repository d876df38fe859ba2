"""Finished sweeps, of one or several models, and the values that a claim about them rests on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffgen.config.lacon_sweep import LaconSweepConfig
from diffgen.config.stored import read_json
from diffgen.errors import UserError
from diffgen.training.run_folder import flatten

SCHEMA = "diffgen-lacon-sweep/1"
Sweep = Mapping[str, Any]
"""What a sweep.json holds."""
FREE = ("source", "aligners", "out", "pictures", "evidence", "also", "device", "batch_size")
"""Settings that may differ between sweeps of two models."""


@dataclass(frozen=True)
class Measured:
    """Sweeps of one or several models at the same settings."""

    sweeps: Sequence[Sweep]

    @property
    def seeds(self) -> list[int]:
        """Of the trainings; of a single model those of its noise."""
        if len(self.sweeps) == 1:
            return list(self.sweeps[0]["seeds"])
        trainings = [sweep["training_seed"] for sweep in self.sweeps]
        known = None not in trainings and len(set(trainings)) == len(trainings)
        return trainings if known else list(range(len(trainings)))

    def values(self, condition: str, figure: str, scale: float) -> list[float] | None:
        """One a model, its mean over seeds of the noise; of a single model one a seed.

        They are of the first number of steps. None: the figure is not available.
        """
        every = []
        for sweep in self.sweeps:
            place = (condition, sweep["steps"][0], scale)
            cells = [c for c in sweep["cells"] if (c["condition"], c["steps"], c["scale"]) == place]
            found = [one[figure] for one in cells[0]["seeds"]]
            if None in found:
                return None
            every.append([one["mean"] for one in found])
        return every[0] if len(every) == 1 else [mean(values) for values in every]

    def real(self, condition: str, figure: str) -> float | None:
        """What real pictures get, a mean over models."""
        found = [sweep["real"][condition][figure] for sweep in self.sweeps]
        return None if None in found else mean([one["mean"] for one in found])


def mean(values: Sequence[float]) -> float:
    """Of one value or more."""
    return sum(values) / len(values)


def finished(config: LaconSweepConfig, size: str, weights: str) -> list[Sweep]:
    """The sweeps of other models that ``config.also`` names.

    Args:
        config: of this one.
        size: of its pictures.
        weights: digest of its model.

    Raises:
        UserError: one cannot be read, is of another schema, has other settings, or is of a model
            that is there already.
    """
    here = shared_settings(config.model_dump(mode="json"), size)
    models = {weights: Path(config.source)}
    sweeps: list[Sweep] = []
    for folder in config.also:
        file = folder / "sweep.json"
        sweep = read_json(file, "also", f"{file} does not exist; finish that sweep first")
        if sweep.get("schema") != SCHEMA:
            raise UserError(f"also: {file} is no sweep of schema {SCHEMA}")
        there = shared_settings(sweep["settings"], sweep["size"])
        for name in sorted(here.keys() | there.keys()):
            if here.get(name) != there.get(name):
                told = f"{name} is {there.get(name)} there, {here.get(name)} here"
                raise UserError(f"also: {folder} is of other settings: {told}")
        if sweep["weights"] in models:
            raise UserError(f"also: {folder} is of the same model as {models[sweep['weights']]}")
        models[sweep["weights"]] = folder
        sweeps.append(sweep)
    return sweeps


def shared_settings(settings: Mapping[str, Any], size: str) -> dict[str, Any]:
    """All that decides the figures of a sweep, but for the model; by dotted names."""
    kept = {name: value for name, value in settings.items() if name not in FREE}
    return {**flatten(kept), "size": size}

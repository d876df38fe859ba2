"""Finished sweeps, of one or several models, and the values that a claim about them rests on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from diffgen.commands.sweeps import Figure, mean
from diffgen.config.stored import read_json
from diffgen.errors import UserError
from diffgen.training.run_folder import flatten

SCHEMA = "diffgen-lacon-sweep/1"
Sweep = Mapping[str, Any]
"""What a sweep.json holds."""
FREE = (
    *("source", "aligners", "adapters", "out", "pictures", "evidence", "also"),
    *("device", "batch_size"),
)
"""Settings that may differ between sweeps of two models."""


class Claiming(Protocol):
    """The configuration of a sweep that a claim may be made from, of several models."""

    source: str
    also: list[Path]

    def model_dump(self, *, mode: str) -> dict[str, Any]:
        """Its settings, for JSON."""


@dataclass(frozen=True)
class Measured:
    """Sweeps of one or several models at the same settings."""

    sweeps: Sequence[Sweep]

    @property
    def seeds(self) -> list[int]:
        """See ``seeds_of``."""
        return seeds_of(self.sweeps)

    def values(self, condition: str, figure: str, scale: float) -> list[float] | None:
        """One a model, its mean over seeds of the noise; of a single model one a seed.

        They are of the first number of steps. None: the figure is not available.
        """
        every = []
        for sweep in self.sweeps:
            place = (condition, sweep["steps"][0], scale)
            cells = [c for c in sweep["cells"] if (c["condition"], c["steps"], c["scale"]) == place]
            every.append([one[figure] for one in cells[0]["seeds"]])
        return values_of(every)

    def real(self, condition: str, figure: str) -> float | None:
        """What real pictures get, a mean over models."""
        found = [sweep["real"][condition][figure] for sweep in self.sweeps]
        return None if None in found else mean([one["mean"] for one in found])


def seeds_of(sweeps: Sequence[Sweep]) -> list[int]:
    """Of the trainings; of a single model those of its noise."""
    if len(sweeps) == 1:
        return list(sweeps[0]["seeds"])
    trainings = [sweep["training_seed"] for sweep in sweeps]
    known = None not in trainings and len(set(trainings)) == len(trainings)
    return trainings if known else list(range(len(trainings)))


def values_of(every: Sequence[Sequence[Figure | None]]) -> list[float] | None:
    """Of a figure by model and seed one value a model, the mean; of a single model one a seed.

    None: one is not available.
    """
    means = [[one["mean"] for one in found if one is not None] for found in every]
    if any(map(lambda found, kept: len(kept) < len(found), every, means)):
        return None
    return means[0] if len(means) == 1 else [mean(values) for values in means]


def finished(
    config: Claiming,
    size: str,
    weights: str,
    name: str = "sweep.json",
    schema: str = SCHEMA,
) -> list[Sweep]:
    """The sweeps of other models that ``config.also`` names.

    Args:
        config: of this one.
        size: of its pictures.
        weights: digest of its model.
        name, schema: of the file.

    Raises:
        UserError: one cannot be read, is of another schema, has other settings, or is of a model
            that is there already.
    """
    here = shared_settings(config.model_dump(mode="json"), size)
    models = {weights: Path(config.source)}
    sweeps: list[Sweep] = []
    for folder in config.also:
        file = folder / name
        sweep = read_json(file, "also", f"{file} does not exist; finish that sweep first")
        if sweep.get("schema") != schema:
            raise UserError(f"also: {file} is no sweep of schema {schema}")
        there = shared_settings(sweep["settings"], sweep["size"])
        for field in sorted(here.keys() | there.keys()):
            if here.get(field) != there.get(field):
                told = f"{field} is {there.get(field)} there, {here.get(field)} here"
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

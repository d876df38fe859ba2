"""The values that a claim rests on, from finished sweeps."""

from collections.abc import Sequence
from dataclasses import dataclass

from diffgen.commands.lacon_sweep.others import Sweep
from diffgen.config.lacon_sweep import CLAIMED_SCALE


@dataclass(frozen=True)
class Measured:
    """Sweeps of one or several models at the same settings."""

    sweeps: Sequence[Sweep]

    @property
    def steps(self) -> int:
        """The number of steps the claim is about."""
        return int(self.sweeps[0]["steps"][0])

    @property
    def seeds(self) -> list[int]:
        """Of the trainings; of a single model those of its noise."""
        if len(self.sweeps) == 1:
            return list(self.sweeps[0]["seeds"])
        trainings = [sweep["training_seed"] for sweep in self.sweeps]
        known = None not in trainings and len(set(trainings)) == len(trainings)
        return trainings if known else list(range(len(trainings)))

    def values(self, condition: str, scale: float, figure: str) -> list[float]:
        """One a model, its mean over seeds of the noise; of a single model one a seed."""
        every = [self._of_seeds(sweep, condition, scale, figure) for sweep in self.sweeps]
        return every[0] if len(every) == 1 else [sum(one) / len(one) for one in every]

    def _of_seeds(self, sweep: Sweep, condition: str, scale: float, figure: str) -> list[float]:
        place = (condition, self.steps, scale)
        (cell,) = (c for c in sweep["cells"] if (c["condition"], c["steps"], c["scale"]) == place)
        return [float(one[figure]["mean"]) for one in cell["seeds"]]

    def real(self, condition: str) -> list[float]:
        """What real pictures get, for each of ``values``."""
        found = [float(sweep["real"][condition]["fidelity"]["mean"]) for sweep in self.sweeps]
        return found * len(self.seeds) if len(found) == 1 else found

    def share(self, condition: str, figure: str) -> list[float] | None:
        """How far a figure at the claim's scale is on the way from unguided to real pictures.

        None: there is no way.
        """
        found = self.values(condition, CLAIMED_SCALE, figure)
        start, end = self.values(condition, 0.0, "fidelity"), self.real(condition)
        if any(a == b for a, b in zip(start, end, strict=True)):
            return None
        return [(x - a) / (b - a) for x, a, b in zip(found, start, end, strict=True)]

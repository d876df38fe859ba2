"""Averages of the weights over the training.

Power-function averages follow Karras et al. 2024 (EDM2), section 3: weights of
images seen s count as s^gamma, and gamma follows from the width, the relative standard deviation
of that profile. Two tracked widths let any other one be rebuilt afterwards by least squares.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from diffgen.config.ema import ConstantEMAConfig, EMAConfig, PowerEMAConfig
from diffgen.training.sharding import whole


def gamma_of_width(width: float) -> float:
    """The exponent whose profile has relative standard deviation ``width``.

    width^2 = (gamma + 1) / ((gamma + 2)^2 (gamma + 3)), solved for its largest real root.
    """
    t = width**-2
    roots = np.roots([1, 7, 16 - t, 12 - t])
    return float(roots.real.max())


def power_decay(gamma: float, seen: int, batch_size: int) -> float:
    """beta = (1 - batch / seen)^(gamma + 1), ``seen`` counting the batch."""
    return (1 - batch_size / seen) ** (gamma + 1) if seen > batch_size else 0.0


def constant_decay(config: ConstantEMAConfig, seen: int, batch_size: int) -> float:
    """beta = 0.5^(batch / half-life), the half-life growing with the training at first."""
    half_life = min(config.half_life_images, config.ramp_up * seen)
    return 0.5 ** (batch_size / half_life)


@dataclass
class Average:
    """One average: a name for its files and a copy of the weights."""

    name: str
    weights: dict[str, Tensor]


class EMA:
    """The averages a configuration asks for, updated together every ``every`` optimiser steps."""

    def __init__(self, config: EMAConfig, model: nn.Module) -> None:
        self.config = config
        weights = {name: p.detach() for name, p in model.named_parameters()}
        self.averages = [
            Average(name, {key: p.clone() for key, p in weights.items()})
            for name in average_names(config)
        ]

    @torch.no_grad()
    def update(self, model: nn.Module, seen: int, batch_size: int) -> None:
        """Take the weights after ``seen`` images, of which the last ``batch_size`` are new.

        Where it is not yet the step for it, nothing happens; the step that is counts for all since.
        """
        if self.reach(seen, batch_size) != seen:
            return
        current = dict(model.named_parameters())
        decays = self._decays(seen, self.config.every * batch_size)
        for average, beta in zip(self.averages, decays, strict=True):
            targets = [current[name].detach() for name in average.weights]
            torch._foreach_lerp_(list(average.weights.values()), targets, 1 - beta)

    def _decays(self, seen: int, batch_size: int) -> list[float]:
        match self.config:
            case PowerEMAConfig():
                gammas = [gamma_of_width(width) for width in self.config.widths]
                return [power_decay(gamma, seen, batch_size) for gamma in gammas]
            case ConstantEMAConfig():
                return [constant_decay(self.config, seen, batch_size)]

    def reach(self, seen: int, batch_size: int) -> int:
        """Images seen at the newest update after ``seen`` images."""
        return seen - seen % (self.config.every * batch_size)

    def whole(self, keep: bool = True, every: bool = True) -> "EMA":
        """The same averages, not split among the processes. All must call it.

        Args:
            keep: false in a process that only takes part; its averages are empty then.
            every: or else only ``preview``, the others being empty.
        """
        found = copy.copy(self)
        found.averages = [
            Average(one.name, whole(one.weights, keep) if every or one is self.preview else {})
            for one in self.averages
        ]
        return found

    @property
    def preview(self) -> Average:
        """The tracked average closest to the one that will be exported."""
        match self.config:
            case PowerEMAConfig():
                gaps = [abs(width - self.config.export) for width in self.config.widths]
                return self.averages[gaps.index(min(gaps))]
            case ConstantEMAConfig():
                return self.averages[0]


def average_names(config: EMAConfig) -> list[str]:
    """Names of the averages' files."""
    match config:
        case PowerEMAConfig():
            return [f"power-{width:g}" for width in config.widths]
        case ConstantEMAConfig():
            return ["constant"]


@torch.no_grad()
def put_weights(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Give ``model`` the ``weights`` of its parameters by name. KeyError: one is missing."""
    for name, parameter in model.named_parameters():
        parameter.copy_(weights[name])

"""Averaged weights: what is kept during training and what the pipeline exports."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from diffgen.config.base import Section, default_kind

Width = Annotated[float, Field(ge=0.01, le=0.25)]


def _apart(widths: tuple[float, float]) -> tuple[float, float]:
    if f"{widths[0]:g}" == f"{widths[1]:g}":
        raise ValueError("the two widths must differ")
    return widths


TwoWidths = Annotated[tuple[Width, Width], AfterValidator(_apart)]


class PowerEMAConfig(Section):
    """Power-function averages of two widths (Karras et al. 2024, section 3)."""

    kind: Literal["power"] = "power"
    """Averaging profile."""
    widths: TwoWidths = (0.05, 0.10)
    """Relative standard deviations of the two averages [share of the training so far]."""
    export: float = Field(default=0.10, ge=0.01, le=0.15)
    """Width the pipeline exports [0.01 to 0.15]; one not tracked is rebuilt from the snapshots."""
    snapshots: int = Field(default=8, ge=1)
    """Snapshots kept over the training, to rebuild other widths from [count]."""
    every: int = Field(default=1, ge=1)
    """Average the weights this often, to save time [optimiser steps]."""


class ConstantEMAConfig(Section):
    """Exponential average with a half-life in images and a ramp-up (Karras et al. 2022)."""

    kind: Literal["constant"] = "constant"
    """Averaging profile."""
    half_life_images: int = Field(default=500_000, gt=0)
    """Half-life of the average [images]."""
    ramp_up: float = Field(default=0.05, gt=0)
    """The half-life is at most this share of the images seen so far [0 to 1]."""
    every: int = Field(default=1, ge=1)
    """Average the weights this often, to save time [optimiser steps]."""


EMAConfig = Annotated[
    PowerEMAConfig | ConstantEMAConfig, Field(discriminator="kind"), default_kind("power")
]

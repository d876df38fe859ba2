"""Optimisers and the schedule of their learning rate."""

from typing import Annotated, Literal

from pydantic import Field

from diffgen.config.base import Section, default_kind

Decay = Annotated[float, Field(ge=0, lt=1)]


class AdamWConfig(Section):
    """AdamW on every parameter."""

    kind: Literal["adamw"] = "adamw"
    """Optimiser."""
    lr: float = Field(default=5e-4, gt=0)
    """Peak learning rate of AdamW."""
    betas: tuple[Decay, Decay] = (0.9, 0.99)
    """AdamW's decay rates of the first and second moment [0 to 1]."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Decoupled weight decay [per unit of learning rate]."""


class MuonConfig(Section):
    """Muon on the blocks' matrices, AdamW on the rest."""

    kind: Literal["muon"] = "muon"
    """Optimiser."""
    muon_lr: float = Field(default=0.02, gt=0)
    """Peak learning rate of Muon."""
    momentum: float = Field(default=0.95, ge=0, lt=1)
    """Muon's (Nesterov) momentum [0 to 1]."""
    lr: float = Field(default=5e-3, gt=0)
    """Peak learning rate of AdamW."""
    betas: tuple[Decay, Decay] = (0.9, 0.99)
    """AdamW's decay rates of the first and second moment [0 to 1]."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Decoupled weight decay [per unit of learning rate]."""


OptimizerConfig = Annotated[
    AdamWConfig | MuonConfig, Field(discriminator="kind"), default_kind("muon")
]


class ScheduleConfig(Section):
    """Learning rate over the images seen: linear warm-up, flat, then decay to zero."""

    warmup_images: int = Field(default=2_000, ge=0)
    """Linear warm-up from zero [images]."""
    decay: Literal["constant", "linear", "cosine"] = "cosine"
    """Shape of the fall to zero at the end; constant: none."""
    decay_share: float = Field(default=1.0, ge=0.01, le=1)
    """Share of the training over which the rate falls, at its end [0 to 1]."""

"""How tokens learn where they are. The kind picks the implementation in diffgen/positions/."""

from typing import Annotated, Literal

from pydantic import Field

from diffgen.config.base import Section, default_kind


class NoPosition(Section):
    """No positional information at all."""

    kind: Literal["none"] = "none"
    """Positional encoding."""


class SinCosConfig(Section):
    """Fixed 2-D sine-cosine embedding added to the tokens (DiT)."""

    kind: Literal["sincos"] = "sincos"
    """Positional encoding."""


class RopeConfig(Section):
    """Axial 2-D rotary encoding of queries and keys (FiT)."""

    kind: Literal["rope"] = "rope"
    """Positional encoding."""
    theta: float = Field(default=10_000.0, gt=1)
    """Base of the rotation frequencies [dimensionless]."""
    additive: bool = False
    """Also add the fixed sine-cosine embedding to the tokens."""


PositionConfig = Annotated[
    NoPosition | SinCosConfig | RopeConfig,
    Field(discriminator="kind"),
    default_kind("rope"),
]

"""How tokens learn where they are. The kind picks the implementation in diffgen/positions/."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from diffgen.config.base import Section, default_kind


class _Position(Section):
    def misfits(self, hidden_size: int, num_heads: int) -> Iterator[str]:
        """Complaints about widths this encoding cannot work with."""
        yield from ()


class NoPosition(_Position):
    """No positional information at all."""

    kind: Literal["none"] = "none"
    """Positional encoding."""


class SinCosConfig(_Position):
    """Fixed 2-D sine-cosine embedding added to the tokens (DiT)."""

    kind: Literal["sincos"] = "sincos"
    """Positional encoding."""

    def misfits(self, hidden_size: int, num_heads: int) -> Iterator[str]:
        """See _Position."""
        if hidden_size % 4:
            yield f"hidden_size {hidden_size} must be a multiple of 4 for sincos"


class RopeConfig(_Position):
    """Axial 2-D rotary encoding of queries and keys (FiT), by default beside sincos."""

    kind: Literal["rope"] = "rope"
    """Positional encoding."""
    theta: float = Field(default=10_000.0, gt=1)
    """Base of the rotation frequencies [dimensionless]."""
    additive: bool = True
    """Also add the fixed sine-cosine embedding to the tokens (FiT: off)."""

    def misfits(self, hidden_size: int, num_heads: int) -> Iterator[str]:
        """See _Position."""
        if (hidden_size // num_heads) % 4:
            yield (
                f"num_heads {num_heads} gives heads of {hidden_size // num_heads} channels; "
                "rope needs a multiple of 4"
            )
        elif self.additive and hidden_size % 4:
            yield f"hidden_size {hidden_size} must be a multiple of 4 for the added sincos"


PositionConfig = Annotated[
    NoPosition | SinCosConfig | RopeConfig,
    Field(discriminator="kind"),
    default_kind("rope"),
]

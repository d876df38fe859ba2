"""How tokens learn where they are. The kind picks the implementation in diffgen/positions/."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, TypeAdapter

from diffgen.config.base import Section, default_kind

Scaling = Literal["none", "pi", "ntk", "ntk_by_parts", "yarn", "riflex", "time_aware"]
Temperature = Literal["none", "log_ratio", "log_ratio_2x", "log_side_2x", "sqrt_log"]


class _Position(Section):
    temperature: Temperature = "none"
    """Factor on the attention logits at other sizes than trained (N, L: tokens of the image and
    of its longer side; N0, L0 as trained): log_ratio ln N / ln N0, log_ratio_2x ln 2N / ln N0
    (FiTv2's released pro2), log_side_2x ln 2L / ln L0 (its pro1), each at least 1, or sqrt_log
    sqrt(ln N / ln N0) (Jin et al. 2023)."""

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
    interpolate: bool = True
    """Fit other grids into the range of the trained one; no: count on from it."""

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
    scaling: Scaling = "none"
    """How frequencies change on grids larger than the trained one, for each image by its own
    size; nothing changes at the trained size."""
    decoupled: bool = True
    """Scale each axis by its own length (FiT's VisionNTK, VisionYaRN); no: both by the longer."""
    period: float | None = Field(default=None, gt=0)
    """Length after which the model repeats itself, which riflex stretches [tokens]; none: the
    trained side. Only for scaling riflex."""

    def misfits(self, hidden_size: int, num_heads: int) -> Iterator[str]:
        """See _Position."""
        if (hidden_size // num_heads) % 4:
            yield (
                f"num_heads {num_heads} gives heads of {hidden_size // num_heads} channels; "
                "rope needs a multiple of 4"
            )
        elif self.additive and hidden_size % 4:
            yield f"hidden_size {hidden_size} must be a multiple of 4 for the added sincos"
        if self.scaling in ("ntk", "ntk_by_parts") and hidden_size // num_heads == 4:
            yield f"position.scaling {self.scaling} needs heads of 8 channels or more"
        if self.period is not None and self.scaling != "riflex":
            yield f"position.period: {self.period:g} has no effect with scaling {self.scaling}"


Positions: TypeAlias = NoPosition | SinCosConfig | RopeConfig
PositionConfig = Annotated[Positions, Field(discriminator="kind"), default_kind("rope")]


def read_position(stated: Mapping[str, Any] | None) -> Positions:
    """A saved positional encoding; None: the default one.

    Raises:
        ValueError: it is none (pydantic's ValidationError).
    """
    found: Positions = TypeAdapter(PositionConfig).validate_python(stated or {})
    return found


def position_changes(
    stated: Positions, scaling: Scaling | None, temperature: Temperature | None
) -> dict[str, Any]:
    """The fields of ``stated`` that are set anew for drawing; None: none of them.

    Raises:
        ValueError: the encoding is not rotary, so it has no frequencies to scale.
    """
    if scaling is not None and not isinstance(stated, RopeConfig):
        raise ValueError(
            f"scaling: {scaling} needs a rotary encoding, the model's is {stated.kind}"
        )
    wanted = {"scaling": scaling, "temperature": temperature}
    changes: dict[str, Any] = {name: value for name, value in wanted.items() if value is not None}
    if scaling not in (None, "riflex"):
        changes["period"] = None  # it is riflex's
    return changes

"""How tokens learn where they are. The kind picks the implementation in diffgen/positions/."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, TypeAdapter, model_validator

from diffgen.config.base import Section, Size, default_kind, parse_size

Scaling = Literal["none", "pi", "ntk", "ntk_by_parts", "yarn", "riflex", "time_aware"]
Temperature = Literal["none", "log_ratio", "log_ratio_2x", "log_side_2x", "sqrt_log"]
Inference = Literal["linspace", "arange", "order_stat", "random"]


class _Position(Section):
    temperature: Temperature = "none"
    """Factor on the attention logits at other sizes than trained (N, L: tokens of the image and
    of its longer side; N0, L0 as trained): log_ratio ln N / ln N0, log_ratio_2x ln 2N / ln N0
    (FiTv2's released pro2), log_side_2x ln 2L / ln L0 (its pro1), each at least 1, or sqrt_log
    sqrt(ln N / ln N0) (Jin et al. 2023)."""
    trained_grid: Size | None = None
    """Rows x columns that positions, scaling and temperature count from, where a model goes on
    training at other sizes than it was first trained at [tokens]; none: those of the training
    images."""

    @model_validator(mode="before")
    @classmethod
    def _side_to_grid(cls, values: Any) -> Any:
        """Runs of earlier versions state a side."""
        if not isinstance(values, dict) or "trained_side" not in values:
            return values
        rest = {name: value for name, value in values.items() if name != "trained_side"}
        side = values["trained_side"]
        return rest if side is None else {"trained_grid": f"{side}x{side}", **rest}

    def trained(self, grid: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns the encoding counts from, for training images of ``grid`` tokens."""
        return parse_size(self.trained_grid) if self.trained_grid else grid

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
    """Axial 2-D rotary encoding of queries and keys (FiT), by default beside the sincos one."""

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


class RPE2DConfig(_Position):
    """Randomised positions (RPE-2D): in training only the order of tokens tells where they are."""

    kind: Literal["rpe2d"] = "rpe2d"
    """Positional encoding."""
    base: Literal["rope", "sincos"] = "rope"
    """What encodes the drawn positions."""
    theta: float = Field(default=10_000.0, gt=1)
    """Base of the rotation frequencies [dimensionless]."""
    additive: bool = False
    """Also add the fixed sine-cosine embedding to the tokens (FiT: off)."""
    range_rows: int | None = Field(default=None, ge=1)
    """Positions of rows are drawn from so many, and no image may have more rows [tokens]; none:
    twice as many as a training image has, or trained_grid."""
    range_columns: int | None = Field(default=None, ge=1)
    """The same for columns [tokens]."""
    scope: Literal["sample", "batch"] = "sample"
    """Every training image draws positions of its own, or all of a batch share a draw."""
    plain_share: float = Field(default=0.0, ge=0, le=1)
    """Share of training images placed as for drawing, by inference [0 to 1]."""
    inference: Inference = "linspace"
    """Positions of N tokens in a range of L when drawing: linspace i(L-1)/(N-1), arange i,
    order_stat, the mean of the i-th drawn one (i+1)(L+1)/(N+1)-1, or random, as in training."""

    def misfits(self, hidden_size: int, num_heads: int) -> Iterator[str]:
        """See _Position."""
        if self.base == "rope":
            yield from RopeConfig(additive=self.additive).misfits(hidden_size, num_heads)
        else:
            yield from SinCosConfig().misfits(hidden_size, num_heads)
            if self.additive:
                yield "position.additive: base sincos is added already; it is for base rope"
            if self.theta != type(self).model_fields["theta"].default:
                yield f"position.theta: {self.theta:g} has no effect with base sincos"
        if self.plain_share and self.inference == "random":
            yield (
                f"position.plain_share: {self.plain_share:g} has no effect with inference random, "
                "which has no plain grids"
            )

    def ranges(self, grid: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns positions are drawn from, for training images of ``grid`` tokens."""
        rows, columns = self.trained(grid)
        return self.range_rows or 2 * rows, self.range_columns or 2 * columns


Positions: TypeAlias = NoPosition | SinCosConfig | RopeConfig | RPE2DConfig
PositionConfig = Annotated[Positions, Field(discriminator="kind"), default_kind("sincos")]


def read_position(stated: Mapping[str, Any] | None) -> Positions:
    """A saved positional encoding; where its kind is not stated it is rope, as in older folders.

    Raises:
        ValueError: it is none (pydantic's ValidationError).
    """
    found: Positions = TypeAdapter(PositionConfig).validate_python(
        {"kind": "rope", **(stated or {})}
    )
    return found


class PositionOverrides(Section):
    """What of an encoding may be set anew for drawing; none: as the model states it."""

    scaling: Scaling | None = None
    """Frequency scaling of a rotary encoding on larger grids; none: the model's own."""
    temperature: Temperature | None = None
    """Factor on the attention logits on other grids; none: the model's own."""
    inference: Inference | None = None
    """Positions of an RPE-2D encoding when drawing; none: the model's own."""


def position_changes(stated: Positions, overrides: PositionOverrides) -> dict[str, Any]:
    """The fields of ``stated`` that are set anew for drawing.

    Raises:
        ValueError: the encoding has no such field: no frequencies to scale, no drawn positions.
    """
    if overrides.scaling is not None and not isinstance(stated, RopeConfig):
        raise ValueError(
            f"scaling: {overrides.scaling} needs a rotary encoding, the model's is {stated.kind}"
        )
    if overrides.inference is not None and not isinstance(stated, RPE2DConfig):
        raise ValueError(
            f"inference: {overrides.inference} needs an rpe2d encoding, "
            f"the model's is {stated.kind}"
        )
    changes = {
        name: value
        for name in PositionOverrides.model_fields
        if (value := getattr(overrides, name))
    }
    if overrides.scaling not in (None, "riflex"):
        changes["period"] = None  # it is riflex's
    return changes

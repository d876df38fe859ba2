"""What every configuration section shares."""

import re
from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict


class Section(BaseModel):
    """A part of a configuration: unknown keys are refused, docstrings are the help texts."""

    model_config = ConfigDict(
        extra="forbid", use_attribute_docstrings=True, frozen=True, allow_inf_nan=False
    )

    def problems(self) -> Iterator[str]:
        """Mistakes that show only across fields or on the disk, as ``field: message`` lines.

        Asked once, when a person starts a command; not when a saved configuration is read back.
        """
        yield from ()


def parse_size(text: str) -> tuple[int, int]:
    """``"48x32"`` -> (48, 32): height x width in pixels. Raises ValueError on anything else."""
    match = re.fullmatch(r"\s*(-?\d+)\s*[xX×]\s*(-?\d+)\s*", text)
    if match is None:
        raise ValueError("must be HEIGHTxWIDTH in pixels, for example 48x32")
    height, width = int(match[1]), int(match[2])
    if height < 1 or width < 1:
        raise ValueError("height and width must be 1 pixel or more")
    return height, width


def _normal_size(text: str) -> str:
    height, width = parse_size(text)
    return f"{height}x{width}"


def _written(value: Any) -> Any:
    return str(value) if isinstance(value, int) else value


Size = Annotated[str, BeforeValidator(_written), AfterValidator(_normal_size)]
"""HEIGHTxWIDTH in pixels; ``parse_size`` gives the numbers."""


def token_grid(size: tuple[int, int], token: int) -> tuple[int, int]:
    """Rows and columns of an image of ``size`` in tokens of ``token`` pixels a side, 1 at least."""
    return max(1, size[0] // token), max(1, size[1] // token)


def _number(value: Any) -> Any:
    return int(value) if isinstance(value, str) and value.strip().isdecimal() else value


ReadNumber = BeforeValidator(_number)
"""For a choice between numbers, which a command line gives as text."""


def default_kind(kind: str) -> BeforeValidator:
    """Lets ``--data.size 48x32`` be written without naming the default ``--data.kind``."""

    def fill(value: Any) -> Any:
        return {"kind": kind, **value} if isinstance(value, dict) else value

    return BeforeValidator(fill)


def indivisible(field: str, size: str, patch: int, factor: int = 1) -> Iterator[str]:
    """The complaint about a size that is no multiple of the VAE's factor times the patch."""
    height, width = parse_size(size)
    step = factor * patch
    if height % step or width % step:
        near = "x".join(str(max(step, round(side / step) * step)) for side in (height, width))
        patches = f"the patch size {patch}"
        divisor = patches if factor == 1 else f"{step}, the VAE's factor {factor} times {patches}"
        yield (
            f"{field}: {size} is not divisible by {divisor}; "
            f"both sides must be multiples of {step}, for example {near}"
        )

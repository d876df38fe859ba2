"""Pictures that stand inside a page."""

import base64
import io
from dataclasses import dataclass

from PIL import Image
from torch import Tensor

from diffgen.data.pixels import to_pil


@dataclass(frozen=True)
class Picture:
    """A PNG as a data URI."""

    uri: str
    text: str
    """What it is, for those who do not see it."""
    width: int
    """It is shown at [pixels]."""
    height: int


def picture(image: Tensor, text: str, side: int) -> Picture:
    """A (3, H, W) uint8 image, shown with its shorter side at ``side`` pixels or somewhat less.

    A larger one is reduced; a smaller one stays as it is, and is shown in whole multiples.
    """
    (drawn,) = to_pil(image[None])
    shorter = min(drawn.size)
    if shorter > side:
        wanted = [max(1, round(length * side / shorter)) for length in drawn.size]
        drawn = drawn.resize((wanted[0], wanted[1]), Image.Resampling.LANCZOS)
    times = max(1, side // min(drawn.size))
    file = io.BytesIO()
    drawn.save(file, format="PNG", optimize=True)
    uri = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
    return Picture(uri, text, drawn.width * times, drawn.height * times)

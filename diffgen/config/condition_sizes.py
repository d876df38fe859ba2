"""Whether an image can be a condition of samples of a size, found out from its header."""

import warnings
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from diffgen.config.base import parse_size
from diffgen.config.images import StoredImagesConfig
from diffgen.config.pictures import file_size
from diffgen.config.source import Source
from diffgen.errors import UserError

SAME_SHAPE = 1.02
"""Aspect ratios that differ by no more than this factor are one shape."""
MAX_PIXELS: int = StoredImagesConfig.model_fields["max_pixels"].default
"""Larger images are refused [pixels]."""


def file_problems(
    said: str,
    files: Sequence[Path],
    source: Source,
    sizes: Sequence[tuple[int, int]],
    remedy: str | None = None,
) -> Iterator[str]:
    """The first complaint about images that cannot be read, or would be stretched.

    ``remedy``: what to do about the latter; None: to crop them, or to ask for another size.
    """
    found = (problem for file in files for problem in _problems(said, file, source, sizes, remedy))
    yield from islice(found, 1)


def _problems(
    said: str,
    file: Path,
    source: Source,
    sizes: Sequence[tuple[int, int]],
    remedy: str | None,
) -> Iterator[str]:
    if not file.is_file():
        yield f"{said}{file} {'is no file' if file.exists() else 'does not exist'}"
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a large image: refused below
            shape = parse_size(file_size(file, "file"))
    except UserError as error:
        yield said + str(error).removeprefix("file: ")
        return
    written = f"{shape[0]}x{shape[1]}"
    if shape[0] * shape[1] > MAX_PIXELS:
        yield f"{said}{file} is {written}, more than {MAX_PIXELS:,} pixels"
        return
    for size in sizes:
        if not same_shape(shape, size):
            near = nearest_size(shape, size, source.factor * source.patch_size)
            other = f", or ask for --size {near[0]}x{near[1]} (height x width)" if near else ""
            advice = remedy or f"crop it to that shape{other}"
            yield (
                f"{said}{file} is {written}, which would be stretched to {size[0]}x{size[1]}; "
                f"{advice}"
            )


def same_shape(one: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether two sizes (height, width) have the same aspect ratio, up to 2 %."""
    ratio = one[0] * other[1] / (one[1] * other[0])
    return max(ratio, 1 / ratio) <= SAME_SHAPE


def nearest_size(
    shape: tuple[int, int], size: tuple[int, int], token: int
) -> tuple[int, int] | None:
    """The size (height, width) of an image's ``shape`` whose longer side is next to ``size``'s.

    Sides are multiples of ``token``; None: none has that shape.
    """
    longest, slimness = max(size), min(shape) / max(shape)

    def of(longer: int) -> tuple[int, int]:
        shorter = max(1, round(longer * slimness / token)) * token
        return (longer, shorter) if shape[0] >= shape[1] else (shorter, longer)

    sizes = (of(n * token) for n in range(1, 2 * longest // token + 1))
    fitting = [found for found in sizes if same_shape(shape, found)]
    return min(fitting, key=lambda found: abs(max(found) - longest), default=None)

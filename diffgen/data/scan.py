"""A quick look at many image files before a training starts.

A file's header and its last bytes clear it; only one that looks odd is decoded whole, so no sound
file is refused. Damage in the middle of a file shows when it is decoded for training.
"""

import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

from PIL import Image
from tqdm import tqdm

from diffgen.data.decode import Damaged, opened

_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
_JPEG_END = b"\xff\xd9"
_THREADS = 16  # the disk is waited for, above all one behind a network
_CHUNK = 256


def damaged_files(files: Sequence[Path], max_pixels: int) -> dict[Path, str]:
    """The files that cannot be read, and why, in their order."""
    chunks = [files[first : first + _CHUNK] for first in range(0, len(files), _CHUNK)]

    def look(chunk: Sequence[Path]) -> list[str | None]:
        return [fault(path, max_pixels) for path in chunk]

    found: dict[Path, str] = {}
    Image.init()  # formats registered while threads look at files would be missed by some
    with warnings.catch_warnings(), ThreadPoolExecutor(_THREADS) as pool, _bar(files) as bar:
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # max_pixels decides
        for chunk, faults in zip(chunks, pool.map(look, chunks), strict=True):
            found |= {p: why for p, why in zip(chunk, faults, strict=True) if why is not None}
            bar.update(len(chunk))
    return found


def fault(path: Path, max_pixels: int) -> str | None:
    """Why an image file cannot be read, as far as a quick look can tell; None: it looks sound."""
    try:
        with opened(path, max_pixels) as (image, file):
            if not _ends_well(image.format, file):
                image.load()
    except Damaged as damage:
        return str(damage)
    return None


def _ends_well(kind: str | None, file: BinaryIO) -> bool:
    """True when the end of the file shows that it is whole; the position in it is kept."""
    position, size = file.tell(), file.seek(0, os.SEEK_END)
    try:
        match kind:
            case "PNG":
                return _slice(file, size - len(_PNG_END), size) == _PNG_END
            case "JPEG" | "MPO":
                return _slice(file, size - len(_JPEG_END), size) == _JPEG_END
            case "WEBP":  # a RIFF container, which says how long it is
                return int.from_bytes(_slice(file, 4, 8), "little") + 8 <= size
            case _:
                return False
    finally:
        file.seek(position)


def _slice(file: BinaryIO, start: int, stop: int) -> bytes:
    file.seek(start)
    return file.read(stop - start)


def _bar(files: Sequence[Path]) -> tqdm:
    """Shown when the look takes seconds, by one process of a machine."""
    return tqdm(
        total=len(files),
        unit="img",
        desc="looking at images",
        delay=2,
        leave=False,
        disable=os.environ.get("LOCAL_RANK", "0") != "0",
    )

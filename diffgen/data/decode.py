"""From an image file of any kind to upright 8-bit RGB."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import IMAGELENGTH, IMAGEWIDTH, TiffImageFile

from diffgen.config.pictures import ROTATED

Colour = tuple[int, int, int]

_SHORTAGES = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


_TURNING = (b"Raw profile type exif\0", b"XML:com.adobe.xmp\0")
"""Texts of a PNG that may tell an orientation."""
_KEYWORD = max(map(len, _TURNING))


class Damaged(Exception):
    """An image that cannot be read. Its text is the reason; who opened it knows its name."""

    def __init__(self, reason: str, refused: bool = False) -> None:
        super().__init__(reason)
        self.refused = refused
        """The system did not hand out the bytes (no such file, an input/output error, ...), which
        may pass: it says nothing about the image."""


def decode(source: Path | bytes, background: Colour, max_pixels: int) -> Image.Image:
    """An image file, or its content, as RGB: upright, transparent parts on ``background``.

    Raises:
        Damaged: it is missing, truncated, broken, too large or of a kind without a known range.
    """
    with opened(source, max_pixels) as (image, _):
        return to_rgb(ImageOps.exif_transpose(image), background)


def upright_size(source: Path | bytes, max_pixels: int) -> tuple[int, int]:
    """(height, width) that ``decode`` gives an image [pixels]; only its header is read.

    Raises:
        Damaged: it is missing, its header broken, too large or of a kind without a known range.
    """
    with opened(source, max_pixels) as (image, file):
        height, width = image.height, image.width
        if isinstance(image, TiffImageFile):  # which Pillow turns itself, some releases even here
            height, width = image.tag_v2[IMAGELENGTH], image.tag_v2[IMAGEWIDTH]
        if image.format == "PNG" and not _turned_late(file):
            exif = Image.Image.getexif(image)  # PngImageFile's own decodes the image to look
        else:
            exif = image.getexif()
        turned = exif.get(ExifTags.Base.Orientation) in ROTATED
        return (width, height) if turned else (height, width)


@contextmanager
def opened(source: Path | bytes, max_pixels: int) -> Iterator[tuple[Image.Image, BinaryIO]]:
    """An image of which only the header has been read, and the file it comes from.

    What fails while it is open is Damaged too: Pillow lets through whatever its parsers meet
    (struct.error, zlib.error, AssertionError, ...). A shortage of memory or of file handles says
    nothing about the image and is passed on.
    """
    try:
        with _binary(source) as file, Image.open(file) as image:
            _check_header(image, max_pixels)
            yield image, file
    except (Damaged, MemoryError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _SHORTAGES:
            raise
        # EINVAL: a broken header asked for a place before the file's start
        refused = isinstance(error, OSError) and error.errno not in (None, errno.EINVAL)
        raise Damaged(_reason(error, max_pixels), refused) from None


def to_rgb(image: Image.Image, background: Colour) -> Image.Image:
    """8-bit RGB from any of Pillow's modes; transparent parts show ``background``."""
    if image.mode.startswith("I"):  # Pillow would clip 16 bits to white
        image = _eight_bits(image)
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    canvas = Image.new("RGB", image.size, background)
    canvas.paste(image, mask=image.getchannel("A"))
    return canvas


def _binary(source: Path | bytes) -> BinaryIO:
    return BytesIO(source) if isinstance(source, bytes) else source.open("rb")


def _turned_late(png: BinaryIO) -> bool:
    """True if what may tell the orientation of a PNG comes after its pixels.

    Only the heads of its chunks are read; the position in the file is kept.
    """
    position, late = png.tell(), False
    place = 8  # behind the signature
    try:
        while len(head := _read(png, place, 8)) == 8:
            length, kind = int.from_bytes(head[:4], "big"), head[4:]
            if late and kind == b"eXIf":
                return True
            text = late and kind in (b"tEXt", b"zTXt", b"iTXt")
            if text and _read(png, place + 8, _KEYWORD).startswith(_TURNING):
                return True
            late = late or kind == b"IDAT"
            place += 12 + length
        return False
    finally:
        png.seek(position)


def _read(file: BinaryIO, place: int, count: int) -> bytes:
    file.seek(place)
    return file.read(count)


def _check_header(image: Image.Image, max_pixels: int) -> None:
    if image.width * image.height > max_pixels:
        size = f"{image.height} x {image.width} pixels"
        raise Damaged(f"{size} are more than data.max_pixels allows ({max_pixels:,})")
    if image.mode == "F":
        raise Damaged("its pixels are floats of unknown range; save it with 8 or 16 bits")


def _eight_bits(image: Image.Image) -> Image.Image:
    """16-bit grey as 8 bits, rounded; with alpha where a grey level is marked transparent."""
    levels = np.asarray(image).astype(np.float64)
    grey = Image.fromarray(((levels / 65535).clip(0, 1) * 255).round().astype(np.uint8))
    if "transparency" in image.info:
        opaque = levels != image.info["transparency"]
        grey.putalpha(Image.fromarray(opaque.astype(np.uint8) * 255))
    return grey


def _reason(error: Exception, max_pixels: int) -> str:
    match error:
        case UnidentifiedImageError():
            return "no known image format"
        case Image.DecompressionBombError():
            return f"many more pixels than data.max_pixels allows ({max_pixels:,})"
        case FileNotFoundError():
            return "no such file"
        case OSError() if error.strerror:
            return error.strerror
        case _:
            return str(error) or type(error).__name__

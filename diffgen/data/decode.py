"""From an image file of any kind to upright 8-bit RGB."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from diffgen.config.pictures import ROTATED

Colour = tuple[int, int, int]

_SHORTAGES = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


class Damaged(Exception):
    """An image that cannot be read. Its text is the reason; who opened it knows its name."""


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
    with opened(source, max_pixels) as (image, _):
        told = image.format != "PNG" or "exif" in image.info  # to seek it Pillow decodes a PNG
        turned = told and image.getexif().get(ExifTags.Base.Orientation) in ROTATED
        return (image.width, image.height) if turned else (image.height, image.width)


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
        raise Damaged(_reason(error, max_pixels)) from None


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

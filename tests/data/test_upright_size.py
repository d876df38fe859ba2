"""The size of an image, read from its header, is that of the image when it is decoded."""

import io
import struct
import zlib

import pytest
from PIL import Image

from diffgen.data.decode import Damaged, decode, upright_size

WHITE = (255, 255, 255)


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(name: bytes, body: bytes) -> bytes:
    """Of a PNG."""
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_the_header_tells_the_size_that_is_decoded(tmp_path, orientation, kind):
    content = encoded(Image.new("RGB", (16, 40)), kind, exif=turned(orientation))
    wanted = (40, 16) if orientation < 5 else (16, 40)
    (tmp_path / "file").write_bytes(content)
    for source in (content, tmp_path / "file"):
        assert upright_size(source, 10_000) == wanted
        assert decode(source, WHITE, 10_000).size == wanted[::-1]


EXIF = turned(6).tobytes().removeprefix(b"Exif\0\0")
XMP = b"XML:com.adobe.xmp\0\0\0\0\0<x tiff:Orientation='6'/>"
PROFILE = b"Raw profile type exif\0\nexif\n%d\n%s" % (len(EXIF), EXIF.hex().encode())


@pytest.mark.parametrize("place", ["before the pixels", "behind them"])
@pytest.mark.parametrize(
    ("name", "body"), [(b"eXIf", EXIF), (b"iTXt", XMP), (b"tEXt", PROFILE), (b"tEXt", b"a\0b")]
)
def test_so_it_does_wherever_a_png_keeps_its_orientation(name, body, place):
    content = encoded(Image.new("RGB", (16, 40)), "PNG")
    at = content.index(b"IDAT" if place == "before the pixels" else b"IEND") - 4
    content = content[:at] + chunk(name, body) + content[at:]
    assert upright_size(content, 10_000) == decode(content, WHITE, 10_000).size[::-1]
    if name == b"eXIf":
        assert upright_size(content, 10_000) == (16, 40)


def test_the_size_of_a_png_is_known_though_its_pixels_are_damaged():
    """Nothing behind them tells an orientation, so they are not looked at."""
    content = encoded(Image.effect_noise((9, 6), 50), "PNG")
    at = content.index(b"IDAT") + 4
    content = content[:at] + bytes(20) + content[at + 20 :]
    assert upright_size(content, 10_000) == (6, 9)
    with pytest.raises(Damaged):
        decode(content, WHITE, 10_000)

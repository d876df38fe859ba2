"""Every kind of image file becomes upright 8-bit RGB, pixel by pixel as expected."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from diffgen.config.images import parse_colour
from diffgen.data.decode import Damaged, decode

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (6, 9, 3), np.uint8)
GREY = RGB[..., 0]
ALPHA = RNG.integers(0, 256, (6, 9, 1), np.uint8)
BACKGROUND = (128, 7, 255)


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def read(content: bytes, background=BACKGROUND) -> np.ndarray:
    return np.asarray(decode(content, background, max_pixels=10_000))


def chunk(name: bytes, body: bytes) -> bytes:
    """Of a PNG."""
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png16(levels: np.ndarray, colour_type: int, transparent: tuple[int, ...] = ()) -> bytes:
    """A PNG of 16 bits a channel, which Pillow cannot write: levels (H, W, C) uint16."""

    height, width = levels.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in levels)
    parts = [chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0))]
    if transparent:
        parts.append(chunk(b"tRNS", struct.pack(f">{len(transparent)}H", *transparent)))
    parts += [chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def over(colour: np.ndarray, alpha: np.ndarray, background=BACKGROUND) -> np.ndarray:
    """Porter and Duff's "over" on an opaque colour, rounded half up to 8 bits."""
    share = alpha / 255
    return np.floor(share * colour + (1 - share) * np.array(background) + 0.5).astype(np.uint8)


def three(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey[..., None], 3, axis=-1)


@pytest.mark.parametrize(
    ("kind", "options"),
    [("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {}), ("BMP", {})],
)
def test_lossless_colour_and_grey_come_through_untouched(kind, options):
    assert np.array_equal(read(encoded(Image.fromarray(RGB), kind, **options)), RGB)
    assert np.array_equal(read(encoded(Image.fromarray(GREY), kind, **options)), three(GREY))


def test_jpeg_is_close_in_colour_and_grey():
    plain = np.full((16, 16, 3), (200, 30, 90), np.uint8)
    assert (
        abs(read(encoded(Image.fromarray(plain), "JPEG", quality=100)) - plain.astype(int)).max()
        < 4
    )
    grey = three(np.full((16, 16), 77, np.uint8))
    content = encoded(Image.fromarray(grey[..., 0]), "JPEG", quality=100)
    assert abs(read(content) - grey.astype(int)).max() < 2


def test_one_bit_images_are_black_and_white():
    bits = GREY > 127
    assert np.array_equal(read(encoded(Image.fromarray(bits), "PNG")), three(bits * np.uint8(255)))


class TestTransparency:
    def test_colour_with_alpha_lies_on_the_background(self):
        rgba = Image.fromarray(np.concatenate([RGB, ALPHA], -1))
        for kind, options in (("PNG", {}), ("TIFF", {})):
            assert np.array_equal(read(encoded(rgba, kind, **options)), over(RGB, ALPHA))
        webp = encoded(rgba, "WEBP", lossless=True, exact=True)
        assert np.array_equal(read(webp), over(RGB, ALPHA))

    def test_what_is_fully_transparent_hides_its_own_colour(self):
        rgba = np.dstack([RGB, np.zeros_like(GREY)])
        assert (read(encoded(Image.fromarray(rgba), "PNG"), (255, 255, 255)) == 255).all()

    def test_grey_with_alpha(self):
        content = encoded(Image.fromarray(np.dstack([GREY, ALPHA]), "LA"), "PNG")
        assert np.array_equal(read(content), over(three(GREY), ALPHA))

    def test_a_palette(self):
        colours = RNG.integers(0, 256, (8, 3), np.uint8)
        places = RNG.integers(0, 8, (6, 9), np.uint8)
        image = Image.fromarray(places, "P")
        image.putpalette(colours.tobytes())
        assert np.array_equal(read(encoded(image, "PNG")), colours[places])

    @pytest.mark.parametrize("whole", [True, False], ids=["one entry", "alpha for each entry"])
    def test_a_palette_with_transparent_entries(self, whole):
        colours = RNG.integers(0, 256, (8, 3), np.uint8)
        places = RNG.integers(0, 8, (6, 9), np.uint8)
        image = Image.fromarray(places, "P")
        image.putpalette(colours.tobytes())
        alpha = np.full(8, 255, np.uint8)
        alpha[3] = 0
        if not whole:
            alpha[:] = RNG.integers(0, 256, 8)
        transparency = 3 if whole else alpha.tobytes()
        content = encoded(image, "PNG", transparency=transparency)
        assert np.array_equal(read(content), over(colours[places], alpha[places][..., None]))

    def test_a_colour_marked_transparent(self):
        rgb = RGB.copy()
        rgb[2, 3] = rgb[5, 0] = (9, 8, 7)
        content = encoded(Image.fromarray(rgb), "PNG", transparency=(9, 8, 7))
        expected = rgb.copy()
        expected[2, 3] = expected[5, 0] = BACKGROUND
        assert np.array_equal(read(content), expected)


class TestSixteenBits:
    """Pillow keeps the high byte of colours; grey is rounded here."""

    LEVELS = RNG.integers(0, 65536, (6, 9, 4)).astype(np.uint16)

    def test_grey(self):
        grey = self.LEVELS[..., :1]
        expected = np.round(grey / 257).astype(np.uint8).repeat(3, -1)
        assert np.array_equal(read(png16(grey, 0)), expected)
        for order in ("<u2", ">u2"):
            tiff = encoded(Image.fromarray(grey[..., 0].astype(order)), "TIFF")
            assert np.array_equal(read(tiff), expected)

    def test_grey_with_a_transparent_level(self):
        grey = self.LEVELS[..., :1].copy()
        grey[1, 1] = 4321
        expected = np.round(grey / 257).astype(np.uint8).repeat(3, -1)
        expected[1, 1] = BACKGROUND
        assert np.array_equal(read(png16(grey, 0, transparent=(4321,))), expected)

    def test_colour(self):
        expected = (self.LEVELS[..., :3] >> 8).astype(np.uint8)
        assert np.array_equal(read(png16(self.LEVELS[..., :3], 2)), expected)

    def test_colour_and_grey_with_alpha(self):
        high = (self.LEVELS >> 8).astype(np.uint8)
        expected = over(high[..., :3], high[..., 3:])
        assert np.array_equal(read(png16(self.LEVELS, 6)), expected)
        expected = over(three(high[..., 0]), high[..., 1:2])
        assert np.array_equal(read(png16(self.LEVELS[..., :2], 4)), expected)


class TestInk:
    def test_cmyk_is_multiplied_out(self):
        """R = (255 - C)(255 - K) / 255, and likewise G from M and B from Y."""
        ink = RNG.integers(0, 256, (6, 9, 4), np.uint8)
        image = Image.frombytes("CMYK", (9, 6), ink.tobytes())
        light = (255.0 - ink[..., :3]) * (255.0 - ink[..., 3:]) / 255
        expected = np.floor(light + 0.5)
        assert np.array_equal(read(encoded(image, "TIFF")), expected)

    def test_a_cmyk_jpeg_is_not_inverted(self):
        image = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
        assert abs(read(encoded(image, "JPEG", quality=100)).astype(int) - (0, 255, 255)).max() < 6


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_every_exif_orientation_is_turned_upright(orientation, kind):
    """What undoes each orientation of the EXIF standard, on arrays."""
    upright = RGB
    stored = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }[orientation](upright)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    image = Image.fromarray(np.ascontiguousarray(stored))
    assert np.array_equal(read(encoded(image, kind, exif=exif, **options)), upright)


def test_a_turned_jpeg():
    left_red = np.zeros((16, 32, 3), np.uint8)
    left_red[:, :16, 0] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = Image.fromarray(np.ascontiguousarray(np.rot90(left_red, 1)))
    out = read(encoded(stored, "JPEG", quality=100, exif=exif)).astype(int)
    assert out.shape == (16, 32, 3)
    assert abs(out - left_red)[:, [0, 8, 23, 31]].max() < 8


class TestRefused:
    def test_more_pixels_than_allowed_before_they_are_decoded(self):
        bomb = encoded(Image.new("1", (3000, 3000)), "PNG")
        with pytest.raises(Damaged, match=r"3000 x 3000 pixels are more than data\.max_pixels"):
            read(bomb)

    def test_what_pillow_itself_calls_a_bomb(self):
        header = encoded(Image.new("1", (1, 1)), "PNG")
        size = struct.pack(">II", 60_000, 60_000)
        ihdr = b"IHDR" + size + header[24:29]
        bomb = header[:12] + ihdr + struct.pack(">I", zlib.crc32(ihdr)) + header[33:]
        with pytest.raises(Damaged, match="many more pixels"):
            read(bomb)

    @pytest.mark.parametrize(
        "content", [b"", b"no image at all", b"\x89PNG\r\n\x1a\n", b"\xff\xd8"]
    )
    def test_what_is_no_image(self, content):
        with pytest.raises(Damaged):
            read(content)

    def test_floats_of_unknown_range(self):
        image = Image.fromarray(np.linspace(0, 1, 54, dtype=np.float32).reshape(6, 9))
        with pytest.raises(Damaged, match="floats of unknown range"):
            read(encoded(image, "TIFF"))

    def test_a_missing_file_and_a_folder(self, tmp_path):
        with pytest.raises(Damaged, match="no such file") as caught:
            decode(tmp_path / "gone.png", BACKGROUND, 100)
        assert caught.value.refused
        with pytest.raises(Damaged, match="directory") as caught:
            decode(tmp_path, BACKGROUND, 100)
        assert caught.value.refused

    def test_a_shortage_says_nothing_about_the_image(self, tmp_path, monkeypatch):
        import resource

        path = tmp_path / "a.png"
        Image.fromarray(RGB).save(path)
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
            with pytest.raises(OSError, match="Too many open files"):
                decode(path, BACKGROUND, 100)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)

    @pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "BMP"])
    def test_damage_anywhere_is_damage_or_an_image_never_another_error(self, kind, tmp_path):
        """Nor is it ever taken for a failure of the system that may pass."""
        content, file = bytearray(encoded(Image.fromarray(RGB), kind)), tmp_path / "file"
        damages = []
        for _ in range(150):
            broken = content.copy()
            for place in RNG.integers(0, len(broken), 3):
                broken[place] = RNG.integers(0, 256)
            broken = broken[: RNG.integers(1, len(broken) + 1)]
            file.write_bytes(broken)
            try:
                assert decode(file, BACKGROUND, 10_000).mode == "RGB"
            except Damaged as damage:
                damages.append(damage)
        assert len(damages) > 50
        assert all(str(damage) and not damage.refused for damage in damages)


@pytest.mark.parametrize(
    ("text", "colour"),
    [("white", (255, 255, 255)), ("#8080ff", (128, 128, 255)), ("#fff", (255, 255, 255))],
)
def test_colours(text, colour):
    assert parse_colour(text) == colour


@pytest.mark.parametrize("text", ["", "whitish", "#12", "#ff000080", "8080ff"])
def test_what_is_no_opaque_colour_is_refused(text):
    with pytest.raises(ValueError, match="opaque colour"):
        parse_colour(text)

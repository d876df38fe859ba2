"""What a quick look at a file finds, and that it takes no sound file for a damaged one."""

import numpy as np
import pytest
from PIL import Image

from diffgen.data.decode import Damaged, decode
from diffgen.data.scan import damaged_files, fault

LIMIT = 100_000
KINDS = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP", "tif": "TIFF", "bmp": "BMP"}


@pytest.fixture(params=KINDS)
def file(request, tmp_path):
    path = tmp_path / f"a.{request.param}"
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def test_a_whole_file_is_sound(file):
    assert fault(file, LIMIT) is None


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.99])
def test_a_cut_file_is_seen(file, share):
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    assert fault(file, LIMIT)


def test_what_follows_an_image_does_no_harm(file):
    """Phones append films to photographs; padding comes from disks and archives."""
    with file.open("ab") as stream:
        stream.write(b"\0" * 5000 + b"moov")
    assert fault(file, LIMIT) is None


def test_it_agrees_with_decoding_wherever_a_file_is_cut(file):
    """No cut that spoils the image passes, but one within what ends it may be no harm."""
    content = file.read_bytes()
    for length in range(len(content) - 40, len(content) + 1):
        file.write_bytes(content[:length])
        try:
            decode(file, (0, 0, 0), LIMIT)
            sound = True
        except Damaged:
            sound = False
        assert (fault(file, LIMIT) is None) == sound


def test_too_many_pixels_are_seen_in_the_header(file):
    assert "data.max_pixels allows (1,999)" in (fault(file, 1999) or "")
    assert fault(file, 2000) is None


def test_an_enormous_image_is_named_and_warns_of_nothing(tmp_path):
    """Between Pillow's warning and its refusal max_pixels alone decides."""
    path = tmp_path / "a.png"
    Image.new("1", (10_000, 10_000)).save(path)
    why = "10000 x 10000 pixels are more than data.max_pixels allows (90,000,000)"
    assert damaged_files([path], 90_000_000) == {path: why}
    assert damaged_files([path], 150_000_000) == {}


def test_many_files_are_answered_in_their_order(tmp_path):
    good = tmp_path / "good.png"
    Image.new("L", (4, 4)).save(good)
    files = []
    for i in range(600):
        files.append(tmp_path / f"{i}.png")
        files[-1].write_bytes(good.read_bytes() if i % 100 else b"")
    assert list(damaged_files(files, LIMIT)) == files[::100]
    assert damaged_files([], LIMIT) == {}

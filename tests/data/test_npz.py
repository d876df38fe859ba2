"""``.npz`` files of images: what is read, how it stays on the disk, what is refused unread."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from diffgen.config.npz import SCHEMA, NpzFile, inspect_npz
from diffgen.data.npz import NpzImages, open_array
from diffgen.data.pixels import to_uint8
from diffgen.errors import UserError

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 16, 24, 3), dtype=np.uint8)


class Trap:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return (Path.touch, (self.mark,))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_pictures_come_back_bit_for_bit(tmp_path, save):
    file = tmp_path / "a.npz"
    save(file, PIXELS, np.array([3, 1, 4, 1, 5]))
    assert inspect_npz(file, "source") == NpzFile(5, (16, 24), True, {})
    images = NpzImages(file, "16x24")
    for k, label in enumerate([3, 1, 4, 1, 5]):
        picture, found = images[k]
        assert (to_uint8(picture).permute(1, 2, 0).numpy() == PIXELS[k]).all()
        assert found == label


def test_an_unpacked_array_is_mapped_and_a_column_ordered_one_too(tmp_path):
    file = tmp_path / "a.npz"
    np.savez(file, np.asfortranarray(PIXELS))
    array = open_array(file, "arr_0")
    assert isinstance(array, np.memmap)
    np.testing.assert_array_equal(array, PIXELS)
    assert NpzImages(file, "16x24")[0][1] == -1  # no labels


def test_another_size_is_the_centre_crop(tmp_path):
    file = tmp_path / "a.npz"
    np.savez(file, PIXELS)
    picture, _ = NpzImages(file, "16x16")[2]
    assert (to_uint8(picture).permute(1, 2, 0).numpy() == PIXELS[2, :, 4:20]).all()


def test_statistics_beside_images_and_alone(tmp_path):
    moments = {"mu": np.zeros(7), "sigma": np.eye(7)}
    spatial = {"mu_s": np.zeros(3), "sigma_s": np.eye(3)}
    np.savez(tmp_path / "a.npz", **moments, **spatial)
    np.savez(tmp_path / "b.npz", PIXELS, **moments)
    pooled, both = {"features": ("mu", "sigma")}, {"spatial": ("mu_s", "sigma_s")}
    both |= pooled
    assert inspect_npz(tmp_path / "a.npz", "r") == NpzFile(0, None, False, {"inception": both})
    found = inspect_npz(tmp_path / "b.npz", "r")
    assert found == NpzFile(5, (16, 24), False, {"inception": pooled})
    assert found.header is None


def test_a_header_names_the_networks_behind_the_statistics(tmp_path):
    header = {"schema": SCHEMA, "extractors": {"a.b": {"name": "a"}}}
    arrays = {"a.b.mu": np.zeros(7), "a.b.sigma": np.eye(7)}
    np.savez(tmp_path / "a.npz", **arrays, header=np.array(json.dumps(header)))
    found = inspect_npz(tmp_path / "a.npz", "r")
    assert found.statistics == {"a.b": {"features": ("a.b.mu", "a.b.sigma")}}
    assert found.header == header
    for broken in (
        {**header, "schema": "another"},
        {**header, "extractors": {}},
        {**header, "extractors": {"a.b": "a"}},
        {**header, "extractors": ["a.b"]},
        [header],
    ):
        said = refused(tmp_path, **arrays, header=np.array(json.dumps(broken)))
        assert "header" in said


def refused(tmp_path, **arrays) -> str:
    file = tmp_path / "bad.npz"
    np.savez(file, **arrays)
    with pytest.raises(UserError) as caught:
        inspect_npz(file, "source")
    assert str(caught.value).startswith("source: ")
    assert str(file) in str(caught.value)
    return str(caught.value)


def test_wrong_content_is_named(tmp_path):
    assert "arr_0 in" in refused(tmp_path, arr_0=PIXELS.astype(np.float32))
    assert "float32 (5, 16, 24, 3)" in refused(tmp_path, arr_0=PIXELS.astype(np.float32))
    assert "(5, 3, 16, 24)" in refused(tmp_path, arr_0=PIXELS.transpose(0, 3, 1, 2))
    assert "(16, 24, 3)" in refused(tmp_path, arr_0=PIXELS[0])
    assert "uint8 (0, 16, 24, 3)" in refused(tmp_path, arr_0=PIXELS[:0])
    assert "arr_1 in" in refused(tmp_path, arr_0=PIXELS, arr_1=np.zeros(4, np.int64))
    assert "float64" in refused(tmp_path, arr_0=PIXELS, arr_1=np.zeros(5))
    assert "holds images, mu; it must hold arr_0" in refused(tmp_path, images=PIXELS, mu=np.ones(2))
    assert "holds nothing" in refused(tmp_path)
    assert "(3,) and float64 (4, 4)" in refused(tmp_path, mu=np.zeros(3), sigma=np.eye(4))


def test_pickled_content_is_never_loaded(tmp_path):
    mark = tmp_path / "mark"
    trap = np.array([Trap(mark)] * 5, dtype=object)
    for arrays in ({"arr_0": trap}, {"arr_0": PIXELS, "arr_1": trap}, {"mu": trap, "sigma": trap}):
        assert "pickled objects, which are never loaded" in refused(tmp_path, **arrays)
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "bad.npz", arr_0=trap)
        with pytest.raises(UserError, match="arr_0 cannot be read"):
            open_array(tmp_path / "bad.npz", "arr_0")
    assert not mark.exists()


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_damage_is_named_wherever_it_is(tmp_path, save):
    whole, file = tmp_path / "whole.npz", tmp_path / "cut.npz"
    save(whole, PIXELS)
    content = whole.read_bytes()
    for damaged in (b"", content[:-30], b"PK" + b"\0" * 100, b"\x80\x04K\x01."):
        file.write_bytes(damaged)
        with pytest.raises(UserError, match=re.escape(f"{file} is no .npz archive, or is cut")):
            inspect_npz(file, "source")
    file.write_bytes(content[:30] + b"\xff" * 200 + content[230:])  # names and header overwritten
    with pytest.raises(UserError, match=re.escape(str(file))):
        NpzImages(file, "16x24")
    for gone in (tmp_path / "gone.npz", tmp_path):
        with pytest.raises(UserError, match="does not exist or is no file"):
            inspect_npz(gone, "source")

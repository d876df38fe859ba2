"""An image that is damaged, and a checkpoint: mended or not, the training ends as undisturbed."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.faults import OUT, TRAIN, Undisturbed, assert_same, newest, started, undisturbed_of
from tests.e2e.test_processes import photographs

FIRST = f"{OUT}/checkpoints/images-000000128"


@pytest.fixture(scope="module")
def on_photographs(tmp_path_factory) -> Undisturbed:
    folder = tmp_path_factory.mktemp("photographs")
    data = ("--data.kind", "folder", "--data.path", str(photographs(folder / "data")))
    more = ("--data.size", "16x16", "--report.num-images", "0", "--out", OUT)
    return Undisturbed.run((*TRAIN, *data, *more), folder)


@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_an_image_damaged_in_the_middle_of_an_epoch(on_photographs, tmp_path, on_error):
    """It was sound when the training began, which looks at all of them."""
    image = on_photographs.folder / "data/7.png"
    sound = image.read_bytes()
    running = started((*on_photographs.command, "--data.on-error", on_error), tmp_path)
    try:
        running.until((tmp_path / FIRST).exists)
        image.write_bytes(b"damaged")
        codes = running.codes
    finally:
        image.write_bytes(sound)
    (told,) = [line for line in running.said[0].splitlines() if f": {image} is" in line]
    if on_error == "skip":
        assert codes == [0]
        assert told.startswith("data: ")
        assert told.endswith("another stands in for it (1 so far)")
        return
    assert codes == [2]
    assert told.startswith(f"diffgen train: {image} is not a readable image: ")
    saved = newest(tmp_path)
    assert 128 <= saved < 768
    assert f"resuming {OUT} at {saved} images" in on_photographs.assert_again(tmp_path)


@pytest.fixture(scope="module")
def undisturbed(make_vae, tmp_path_factory) -> Undisturbed:
    return undisturbed_of("train", make_vae, tmp_path_factory)


def cut_short(checkpoint: Path) -> None:
    weights = checkpoint / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])


def flip_a_bit(checkpoint: Path) -> None:
    weights = checkpoint / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)


def lose_a_file(checkpoint: Path) -> None:
    (checkpoint / "optimizer.pt").unlink()


def lose_all(checkpoint: Path) -> None:
    shutil.rmtree(checkpoint)
    checkpoint.mkdir()


def test_no_permission_to_write_a_checkpoint(undisturbed, tmp_path):
    shutil.copytree(undisturbed.folder / OUT, tmp_path / OUT)
    checkpoints = tmp_path / OUT / "checkpoints"
    shutil.rmtree(checkpoints / "images-000000768")
    checkpoints.chmod(0o500)
    if os.access(checkpoints, os.W_OK):
        pytest.skip("root may write everywhere")
    running = undisturbed.started(tmp_path)
    codes = running.codes
    checkpoints.chmod(0o700)
    assert codes == [2], running.said
    assert "images-000000768 cannot be written, what was there is kept" in running.said[0]
    assert "Permission denied" in running.said[0]
    assert f"resuming {OUT} at 640 images" in undisturbed.assert_again(tmp_path)


@pytest.mark.parametrize("damage", [cut_short, flip_a_bit, lose_a_file, lose_all])
def test_a_damaged_newest_checkpoint(undisturbed, tmp_path, damage: Callable[[Path], None]):
    """It is named, kept beside, and the one before goes on to the same end."""
    shutil.copytree(undisturbed.folder / OUT, tmp_path / OUT)
    checkpoints = tmp_path / OUT / "checkpoints"
    damage(checkpoints / "images-000000768")
    running = undisturbed.started(tmp_path)
    assert running.codes == [0], running.said
    (told,) = [line for line in running.said[0].splitlines() if "damaged" in line]
    assert f"{OUT}/checkpoints/images-000000768 is damaged" in told
    assert f"resuming {OUT} at 640 images" in running.said[0]
    shutil.rmtree(checkpoints / "damaged-images-000000768")
    assert_same(tmp_path / OUT, undisturbed.folder / OUT)

"""Images that fail only when they are decoded: what stands in, what is said, and where it ends."""

import numpy as np
import pytest
import torch
from PIL import Image

from diffgen.config.data import FolderConfig
from diffgen.data.folder import Folder
from diffgen.data.loader import load_batches
from diffgen.data.order import BatchNumbers, TrainingData
from diffgen.errors import UserError

SHADES = [10 * i for i in range(10)]


@pytest.fixture
def folder(tmp_path):
    """Ten plain images, each of its own shade, in two classes."""
    for i, shade in enumerate(SHADES):
        path = tmp_path / ("ab"[i // 5]) / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8), (shade, shade, shade)).save(path)
    return tmp_path


def spoil(folder, *numbers):
    """Damage pixels, not the header and not the end."""
    for number in numbers:
        (path,) = folder.glob(f"*/{number}.png")
        content = bytearray(path.read_bytes())
        place = content.index(b"IDAT") + 6
        content[place] ^= 0xFF
        path.write_bytes(content)


def read(folder, on_error="skip"):
    return Folder(FolderConfig(path=folder, size="8x8", on_error=on_error, flip=False))


def shade(image: torch.Tensor) -> int:
    levels = np.unique(((image + 1) * 127.5).round().numpy())
    assert len(levels) == 1
    return int(levels[0])


def batches(images, workers=0, seed=0, start=0, stop=40):
    numbers = BatchNumbers(start, stop, 10)
    return list(load_batches(TrainingData(images, seed), numbers, workers, pin_memory=False))


def test_the_next_readable_image_stands_in_with_its_own_label(folder):
    spoil(folder, 3, 4, 9)
    images = read(folder)
    assert len(images) == 10  # the quick look could not see it
    shown = [(shade(image), label) for image, label in (images[i] for i in range(10))]
    assert shown[3] == shown[4] == shown[5] == (50, 1)
    assert shown[9] == shown[0] == (0, 0)
    assert [shown[i] for i in (0, 2, 8)] == [(0, 0), (20, 0), (80, 1)]
    assert sorted(images.failed) == [3, 4, 9]


def test_a_number_shows_the_same_whatever_was_met_before(folder):
    spoil(folder, 3, 4)
    images = read(folder)
    forwards = [shade(TrainingData(images, 1)[n]["image"]) for n in range(20)]
    fresh = [shade(TrainingData(read(folder), 1)[n]["image"]) for n in reversed(range(20))]
    assert forwards == fresh[::-1]


@pytest.mark.parametrize("workers", [0, 2])
def test_each_is_named_once_and_counted(folder, workers, capfd):
    spoil(folder, 3, 7)
    shown = batches(read(folder), workers)
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("data:")]
    assert len(lines) == 2
    assert sorted(line.split(" is not")[0].rsplit("/", 1)[1] for line in lines) == [
        "3.png",
        "7.png",
    ]
    assert lines[0].endswith("(1 so far)")
    assert lines[1].endswith("(2 so far)")
    assert {key for batch in shown for key in batch} == {"image", "crop", "label", "number"}


def test_workers_meet_the_same_images(folder):
    spoil(folder, 3, 4, 9)
    alone, beside = batches(read(folder)), batches(read(folder), workers=2)
    resumed = batches(read(folder), workers=1, start=20)
    for one, other in zip(alone, beside, strict=True):
        assert torch.equal(one["image"], other["image"])
        assert torch.equal(one["label"], other["label"])
    for one, other in zip(alone[2:], resumed, strict=True):
        assert torch.equal(one["image"], other["image"])


@pytest.mark.parametrize("workers", [0, 2])
def test_under_raise_it_is_one_message(folder, workers, capfd):
    spoil(folder, 3)
    with pytest.raises(UserError) as caught:
        batches(read(folder, "raise"), workers)
    message = str(caught.value)
    assert message.startswith(f"{folder}/a/3.png is not a readable image: ")
    assert len(message.splitlines()) == 1
    assert "Traceback" not in capfd.readouterr().err


def test_when_all_are_damaged_the_run_ends(folder):
    spoil(folder, *range(10))
    with pytest.raises(UserError, match="no image is left that can be read"):
        batches(read(folder))


def test_an_index_out_of_range(folder):
    with pytest.raises(IndexError):
        read(folder)[10]

"""Two parallel folders: pairs that stay aligned, what stands in, and what is refused."""

from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from PIL import Image

from diffgen.commands.condition_files import ConditionFile, stored_map
from diffgen.commands.train_joint import images_of
from diffgen.config.beside import Settled
from diffgen.config.data import FolderConfig
from diffgen.config.joint import JointConfig
from diffgen.config.source import Source
from diffgen.data.loader import load_batches
from diffgen.data.order import BatchNumbers
from diffgen.data.paired import PairedImages
from diffgen.errors import UserError
from diffgen.joint.pairs import folder_pair, read_from_files
from diffgen.lacon.conditions import DEPTH, EDGE, MASK, PALETTE
from diffgen.lacon.maps import maps_of
from diffgen.lacon.training import MappedData

SKETCH = folder_pair("sketch")


def picture(seed: int, height: int = 14, width: int = 18) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8))


@pytest.fixture
def folder(tmp_path) -> Path:
    """``images``, six of two classes in PNG, and ``pairs``, the same pictures in BMP and WebP."""
    for i in range(6):
        for place, suffix in (("images", "png"), ("pairs", "bmp" if i % 2 else "webp")):
            file = tmp_path / place / "ab"[i // 3] / f"{i}.{suffix}"
            file.parent.mkdir(parents=True, exist_ok=True)
            options = {"lossless": True} if suffix == "webp" else {}
            picture(i).save(file, **options)
    return tmp_path


def read(folder: Path, background=(255, 255, 255), grey=False, **options) -> PairedImages:
    config = FolderConfig(path=folder / "images", **{"size": "8x8", **options})
    return PairedImages(config, folder / "pairs", background=background, grey=grey)


def spoil(file: Path, place: int = 40) -> None:
    """Damage a BMP's or PNG's header, or what stands at ``place``."""
    content = bytearray(file.read_bytes())
    content[place] ^= 0xFF
    file.write_bytes(content)


@pytest.mark.parametrize(
    "options",
    [
        {"flip": False},
        {},
        {"crop": "random", "crop_scale": 0.3},
        {"crop": "random", "crop_share": 0.5},
    ],
)
def test_a_pair_stays_aligned_however_its_image_is_cropped_and_mirrored(folder, options):
    data = MappedData(read(folder, **options), 0, SKETCH)
    samples = [data[number] for number in range(60)]
    for sample in samples:
        assert torch.equal(sample["image"], sample["map"])
    seen = {sample["image"].numpy().tobytes() for sample in samples}
    assert len(seen) >= (40 if "crop" in options else 6 if options else 12)


def test_the_map_of_an_image_without_augmentation_is_its_partners_centre_crop(folder):
    images = read(folder)
    for i in (4, 0, 4):
        image, label = images[i]
        assert torch.equal(images.maps(i)["pair"], image)
        assert label == i // 3
        assert images.maps(i)["pair"].shape == (3, 8, 8)
    with pytest.raises(IndexError):
        images.maps(6)


def test_the_order_of_asking_makes_no_difference(folder):
    """A partner is kept from its image's opening; another index must not get it."""
    images = read(folder)
    wanted = [images[i][0] for i in range(6)]
    images[2]
    assert torch.equal(images.maps(5)["pair"], wanted[5])
    one = torch.Generator().manual_seed(3)
    other = torch.Generator().manual_seed(3)
    mirrored = images.augmented(1, one)[0]
    assert torch.equal(images.augmented_maps(1, other)["pair"], mirrored)


def test_images_that_are_left_out_may_have_partners(folder):
    images = read(folder, classes=["b"], subset=":2")
    assert [file.stem for file in images.partners] == ["3", "4"]
    assert torch.equal(images.maps(1)["pair"], images[1][0])


def test_another_pair_stands_in_for_one_that_is_damaged_half(folder, capsys):
    for broken in (folder / "pairs/a/1.bmp", folder / "pairs/b/5.bmp"):
        broken.write_bytes(broken.read_bytes()[:200])
    data = MappedData(read(folder, on_error="skip"), 0, SKETCH)
    batches = list(load_batches(data, BatchNumbers(0, 24, 6), 0, pin_memory=False))
    for batch in batches:
        assert torch.equal(batch["image"], batch["map"])
    said = capsys.readouterr().err
    assert said.count("another stands in for it") == 2
    assert "pairs/a/1.bmp is not a readable image: " in said
    images = read(folder, on_error="skip")
    assert torch.equal(images.maps(1)["pair"], images[2][0])  # before its image was opened


def refusal(folder: Path, **options) -> str:
    with pytest.raises(UserError) as caught:
        read(folder, **options)
    message = str(caught.value)
    assert message.startswith("pair_path: ")
    return message.replace(str(folder), "")


def test_a_picture_without_a_partner_is_named(folder):
    for i in (0, 1, 4):
        (folder / f"pairs/{'ab'[i // 3]}/{i}.{'bmp' if i % 2 else 'webp'}").unlink()
    said = refusal(folder)
    assert "/pairs has no picture for 3 of 6 images: /images/a/0.png, /images/a/1.png," in said
    for i in (2, 3, 5):
        (folder / f"pairs/{'ab'[i // 3]}/{i}.{'bmp' if i % 2 else 'webp'}").unlink()
    assert refusal(folder).endswith("/images/b/4.png, ...")  # five of six


def test_a_partner_of_no_image_is_named(folder):
    picture(9).save(folder / "pairs/a/9.png")
    said = refusal(folder, classes=["b"])
    assert said == "pair_path: 1 picture is of no image in /images: /pairs/a/9.png"
    picture(9).save(folder / "pairs/a/8.png")
    assert refusal(folder).startswith("pair_path: 2 pictures are of no image in /images: ")


def test_two_images_that_would_have_one_partner_are_refused(folder):
    picture(1).save(folder / "images/a/1.jpg")
    said = refusal(folder)
    assert "/images/a/1.jpg and /images/a/1.png have one name, suffix apart, and so would" in said


def test_two_partners_of_one_image_are_refused_even_where_their_number_is_right(folder):
    picture(1).save(folder / "pairs/a/1.png")
    assert "/pairs/a/1.bmp and /pairs/a/1.png have one name, suffix apart" in refusal(folder)


def test_a_partner_of_another_size_is_named_with_both_sizes(folder):
    picture(1, 7, 9).save(folder / "pairs/a/1.bmp")
    said = refusal(folder, on_error="skip")
    assert "pair_path: 1 picture is not as large as its image: " in said
    assert "/pairs/a/1.bmp is 7x9, /images/a/1.png is 14x18" in said


def test_sizes_are_those_of_upright_pictures(folder):
    exif = Image.Exif()
    exif[0x0112] = 6
    for kind in ("jpeg", "png"):
        (turned,) = (folder / "pairs/a").glob("1.*")
        turned.unlink()
        picture(1, 18, 14).save(folder / f"pairs/a/1.{kind}", exif=exif)
        assert read(folder).maps(1)["pair"].shape == (3, 8, 8)
        picture(1).save(folder / f"pairs/a/1.{kind}", exif=exif)
        assert f"/pairs/a/1.{kind} is 18x14, /images/a/1.png is 14x18" in refusal(folder)


def test_a_damaged_partner_is_refused(folder):
    broken = folder / "pairs/b/3.bmp"
    broken.write_bytes(broken.read_bytes()[:200])
    said = refusal(folder)
    assert "1 of 6 pictures cannot be read; mend them, or pass over their images" in said
    assert "/pairs/b/3.bmp: image file is truncated" in said


def test_pictures_pillow_would_warn_of_are_compared_in_size_too(folder, monkeypatch):
    """A warning is an error here, and would pass for damage."""
    picture(1, 13, 18).save(folder / "pairs/a/1.bmp")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 200)  # of 234 and 252
    assert "/pairs/a/1.bmp is 13x18, /images/a/1.png is 14x18" in refusal(folder)


def test_a_coloured_partner_counts_as_damaged_where_maps_are_grey(folder):
    grey = picture(0).convert("L").convert("RGB")
    for file in sorted((folder / "pairs").glob("*/*"))[1:]:
        grey.save(file.with_suffix(".png"))
        file.unlink()
    said = (
        r"^pair_path: .*pairs/a/0.webp is a colour image \(its channels differ by up to \d+ "
        r"levels\), but a map of one channel is to be grey; mend it, or pass over its image with "
        r"--data.on-error skip$"
    )
    with pytest.raises(UserError, match=said):
        read(folder, grey=True).maps(0)
    skipping = read(folder, grey=True, on_error="skip")
    assert torch.equal(skipping.maps(0)["pair"], skipping.maps(1)["pair"])
    assert list(skipping.failed) == [0]


@pytest.mark.parametrize("condition", [MASK, EDGE, DEPTH, PALETTE], ids=lambda c: c.name)
def test_a_file_is_read_alike_in_training_and_in_drawing(folder, condition):
    """Half transparent, of levels that are grey but for a tinge."""
    rng = np.random.default_rng(0)
    levels = rng.integers(0, 200, (14, 18, 1)) + rng.integers(0, 8, (14, 18, 3))
    seen = rng.integers(0, 2, (14, 18, 1)) * 255
    for file in sorted((folder / "pairs").glob("*/*")):
        file.unlink()
        pixels = np.concatenate([levels, seen], axis=2).astype(np.uint8)
        Image.fromarray(pixels).save(file.with_suffix(".png"))
    config = JointConfig(source="x", pair=condition.name, pair_path=folder / "pairs")
    data = FolderConfig(path=folder / "images", size="14x18", background="red")
    settled = Settled(config, data, folder, cast(Source, None), None)
    trained = maps_of(images_of(settled, condition), [0], read_from_files(condition))
    file = ConditionFile.read(folder / "pairs/a/0.png", "given: ")
    torch.testing.assert_close(trained, stored_map(file, condition), rtol=0, atol=1e-6)

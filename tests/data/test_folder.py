"""A folder of pictures as training data: classes, crops, mirroring, and what is refused."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from diffgen.config.data import FolderConfig
from diffgen.data.crops import center_crop, random_box, resized
from diffgen.data.folder import Folder
from diffgen.data.order import TrainingData
from diffgen.data.pixels import from_pil, from_uint8, to_pil, to_uint8
from diffgen.errors import UserError


def picture(height: int, width: int, seed: int = 0) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8))


def ramp(height: int, width: int) -> Image.Image:
    """Red tells the row and green the column, as the share of the way, times 240."""
    row, column = np.meshgrid(
        (np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width, indexing="ij"
    )
    planes = np.stack([240 * row, 240 * column, np.zeros_like(row)], axis=-1)
    return Image.fromarray(planes.round().astype(np.uint8))


def fill(folder, names, size=(8, 8)):
    """Write a random picture under every name, each different."""
    for seed, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(*size, seed=seed).save(path)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def read(folder, size="8x8", **options) -> Folder:
    return Folder(FolderConfig(path=folder, size=size, **options))


class TestScan:
    def test_sub_folders_are_classes_in_the_order_of_their_names(self, tmp_path):
        fill(tmp_path, ["newt/b.png", "cat/deep/1.jpg", "cat/a.PNG", "newt/a.webp"])
        (tmp_path / "cat/notes.txt").write_text("no picture")
        (tmp_path / "cat/.hidden.png").write_text("no picture")
        (tmp_path / "empty").mkdir()
        images = read(tmp_path)
        assert images.class_names == ("cat", "newt")
        assert [path.name for path in images.files] == ["a.PNG", "1.jpg", "a.webp", "b.png"]
        assert images.labels == [0, 0, 1, 1]
        assert len(images) == 4

    def test_a_flat_folder_is_one_class_named_after_it(self, tmp_path):
        fill(tmp_path / "pets", ["2.png", "1.png"])
        images = read(tmp_path / "pets")
        assert images.class_names == ("pets",)
        assert [path.name for path in images.files] == ["1.png", "2.png"]
        assert images.labels == [0, 0]

    def test_pictures_in_and_beside_class_folders_are_refused(self, tmp_path):
        fill(tmp_path, ["cat/a.png", "loose.png"])
        with pytest.raises(UserError, match=r"cat, .*loose\.png"):
            read(tmp_path)

    def test_an_empty_folder_is_refused(self, tmp_path):
        with pytest.raises(UserError, match="holds no images"):
            read(tmp_path)


class TestReading:
    def test_a_picture_of_the_right_size_comes_through_untouched(self, tmp_path):
        fill(tmp_path, ["cat/a.png"])
        pixels, label = read(tmp_path)[0]
        expected = torch.from_numpy(np.array(picture(8, 8))).permute(2, 0, 1)
        assert torch.equal(to_uint8(pixels[None])[0], expected)
        assert (pixels.dtype, label) == (torch.float32, 0)
        assert pixels.abs().max() <= 1

    @pytest.mark.parametrize("mode", ["L", "1", "P", "RGBA", "LA", "CMYK"])
    def test_every_mode_becomes_rgb(self, tmp_path, mode):
        suffix = "tif" if mode == "CMYK" else "png"
        Image.new("RGB", (8, 8), (255, 255, 255)).convert(mode).save(tmp_path / f"a.{suffix}")
        pixels, _ = read(tmp_path)[0]
        assert pixels.shape == (3, 8, 8)
        assert pixels.min() > 0.98

    def test_grey_pictures_fill_all_three_channels(self, tmp_path):
        grey = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
        Image.fromarray(grey).save(tmp_path / "a.png")
        pixels, _ = read(tmp_path)[0]
        assert torch.equal(to_uint8(pixels[None])[0], torch.from_numpy(grey).expand(3, 8, 8))

    def test_sixteen_bit_grey_keeps_its_shades(self, tmp_path):
        shades = np.linspace(0, 65535, 64).reshape(8, 8).astype(np.uint16)
        Image.fromarray(shades).save(tmp_path / "a.png")
        pixels, _ = read(tmp_path)[0]
        assert abs(to_uint8(pixels[None])[0, 0].numpy() - shades / 257).max() <= 1

    def test_a_photograph_is_turned_upright(self, tmp_path):
        """Cameras store how they were held as EXIF orientation; 6: turn right to see it upright."""
        exif = Image.Exif()
        exif[0x0112] = 6
        upright = picture(8, 12)
        upright.rotate(90, expand=True).save(tmp_path / "a.png", exif=exif)
        pixels, _ = read(tmp_path, size="8x12")[0]
        assert torch.equal(to_uint8(pixels[None])[0], from_pil(upright))

    def test_float_pixels_of_unknown_range_are_refused(self, tmp_path):
        Image.fromarray(np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)).save(
            tmp_path / "a.tif"
        )
        with pytest.raises(UserError, match=r"a\.tif: its pixels are floats"):
            read(tmp_path)

    @pytest.mark.parametrize("content", [b"", b"no picture at all", "truncated"])
    def test_a_broken_picture_is_named(self, tmp_path, content):
        fill(tmp_path, ["cat/good.png", "cat/whole.png"], size=(64, 64))
        whole = (tmp_path / "cat/whole.png").read_bytes()
        bad = tmp_path / "cat/bad.png"
        bad.write_bytes(whole[: len(whole) // 2] if content == "truncated" else content)
        with pytest.raises(UserError, match=r"1 of 3 images cannot be read(.|\n)*cat/bad\.png: "):
            read(tmp_path)
        images = read(tmp_path, on_error="skip")
        assert [path.name for path in images.files] == ["good.png", "whole.png"]
        assert list(images.skipped) == [bad]


class TestPixels:
    def test_eight_bits_come_back_exactly(self):
        levels = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
        assert torch.equal(to_uint8(from_uint8(levels)), levels)

    def test_what_lies_outside_is_clipped_and_the_rest_rounded(self):
        x = torch.tensor([-9.0, -1.0, 0.0, 1.0, 9.0, 0.0079]).reshape(1, 1, 2, 3)
        assert to_uint8(x).flatten().tolist() == [0, 0, 128, 255, 255, 129]

    def test_to_pil_and_back(self):
        x = torch.randint(0, 256, (1, 3, 4, 6), generator=generator()).to(torch.uint8)
        assert to_pil(x)[0].size == (6, 4)
        assert torch.equal(from_pil(to_pil(x)[0]), x[0])


def random_resized_crop(image, height, width, smallest, generator):
    """A random part as a training shows it."""
    box = random_box((image.height, image.width), height, width, smallest, generator)
    return resized(image, height, width, box)


def adm_center_crop(image: Image.Image, size: int) -> Image.Image:
    """The square crop of Dhariwal and Nichol 2021, as their paper's code orders its steps."""
    while min(image.size) >= 2 * size:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    scale = size / min(image.size)
    image = image.resize(
        (round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC
    )
    top, left = (image.height - size) // 2, (image.width - size) // 2
    return Image.fromarray(np.array(image)[top : top + size, left : left + size])


class TestCentreCrop:
    @pytest.mark.parametrize("shape", [(16, 16), (100, 37), (33, 64), (9, 40), (257, 130)])
    def test_square_targets_are_adms(self, shape):
        image = picture(*shape)
        assert center_crop(image, 16, 16).tobytes() == adm_center_crop(image, 16).tobytes()

    def test_halving_averages_and_the_middle_is_kept(self):
        """4 x 8 from a 8 x 24 picture of 2 x 2 tiles: no interpolation, columns 4 to 20."""
        tiles = np.random.default_rng(0).integers(0, 256, (4, 12, 3), np.uint8)
        image = Image.fromarray(tiles.repeat(2, 0).repeat(2, 1))
        assert np.array_equal(np.array(center_crop(image, 4, 8)), tiles[:, 2:10])

    @pytest.mark.parametrize(
        ("shape", "target"), [((90, 40), (8, 16)), ((40, 90), (16, 8)), ((50, 100), (24, 40))]
    )
    def test_other_shapes_keep_the_middle_unstretched(self, shape, target):
        """On a ramp every pixel says where it came from: evenly spaced, about the centre."""
        out = np.array(center_crop(ramp(*shape), *target), float)[..., :2] / 240
        assert out.shape[:2] == target
        rows = out[:, :, 0].mean(1) * shape[0]
        columns = out[:, :, 1].mean(0) * shape[1]
        pitch = min(shape[0] / target[0], shape[1] / target[1])  # source pixels a target pixel
        for places, side, count in ((rows, shape[0], target[0]), (columns, shape[1], target[1])):
            expected = side / 2 + (np.arange(count) - (count - 1) / 2) * pitch
            # Within a pixel of the result and the rounding of the scaled sides.
            np.testing.assert_allclose(places, expected, atol=pitch)

    @pytest.mark.parametrize("shape", [(1, 1_000_000), (1_000_000, 1), (3, 5000), (1, 1)])
    def test_a_strip_is_cut_before_it_is_scaled(self, shape):
        """Scaled whole, the longest would be 64 x 64,000,000 pixels. The middle is red."""
        pixels = np.zeros((*shape, 3), np.uint8)
        margins = (3 * side // 8 if side > 3 else 0 for side in shape)
        rows, columns = (slice(m, side - m) for m, side in zip(margins, shape, strict=True))
        pixels[rows, columns, 0] = 255
        out = center_crop(Image.fromarray(pixels), 64, 64)
        assert out.size == (64, 64)
        assert out.getcolors() == [(64 * 64, (255, 0, 0))]

    @settings(max_examples=60, deadline=None)
    @given(*[st.integers(1, 70)] * 2, *[st.integers(1, 24)] * 2)
    def test_any_picture_fits_any_target(self, height, width, rows, columns):
        """And a plain one stays plain: no border is ever seen."""
        out = center_crop(Image.new("RGB", (width, height), (255, 128, 3)), rows, columns)
        assert out.size == (columns, rows)
        assert out.getcolors() == [(rows * columns, (255, 128, 3))]


def cut_of(out: Image.Image, shape: tuple[int, int]) -> tuple[float, ...]:
    """(top, bottom, left, right) of the part of a ramp a result shows, in source pixels.

    Read from the inner pixels' slope, which edges do not blur.
    """
    array = np.array(out, float)[..., :2] / 240
    sides = []
    for plane, axis, side in ((array[..., 0], 1, shape[0]), (array[..., 1], 0, shape[1])):
        places = plane.mean(axis) * side
        slope, start = np.polyfit(np.arange(2, len(places) - 2), places[2:-2], 1)
        sides += [start - slope / 2, start + slope * (len(places) - 0.5)]
    return tuple(sides)


class TestRandomCrop:
    @pytest.mark.parametrize(
        ("shape", "target"), [((120, 160), (24, 24)), ((160, 90), (16, 32)), ((40, 40), (32, 16))]
    )
    def test_it_never_stretches_stays_inside_and_keeps_the_share_asked_for(self, shape, target):
        largest = min(shape[0] / target[0], shape[1] / target[1])
        shares = []
        for seed in range(60):
            out = random_resized_crop(ramp(*shape), *target, 0.3, generator(seed))
            assert out.size == target[::-1]
            top, bottom, left, right = cut_of(out, shape)
            down, across = (bottom - top) / target[0], (right - left) / target[1]
            assert down == pytest.approx(across, rel=0.06)
            assert min(top, left) > -1
            assert bottom < shape[0] + 1
            assert right < shape[1] + 1
            shares.append(down * across / largest**2)
        assert 0.27 < min(shares) < 0.45
        assert 0.85 < max(shares) < 1.06
        assert np.mean(shares) == pytest.approx(0.65, abs=0.1)  # uniform in [0.3, 1]

    def test_it_moves_over_the_whole_picture(self):
        tops, lefts = zip(
            *(
                cut_of(random_resized_crop(ramp(60, 90), 16, 16, 0.25, generator(s)), (60, 90))[::2]
                for s in range(60)
            ),
            strict=True,
        )
        assert min(tops) < 3
        assert max(tops) > 15
        assert min(lefts) < 5
        assert max(lefts) > 40

    def test_the_whole_share_of_a_fitting_picture_is_the_picture(self):
        image = picture(16, 24)
        assert random_resized_crop(image, 16, 24, 1.0, generator()).tobytes() == image.tobytes()

    @settings(max_examples=200, deadline=None)
    @given(*[st.integers(1, 300)] * 2, *[st.integers(1, 24)] * 2, st.integers(0, 2**31))
    def test_any_picture_fits_any_target_at_any_share(self, height, width, rows, columns, seed):
        image = Image.new("RGB", (width, height), (255, 128, 3))
        for smallest in (1.0, 0.05):
            out = random_resized_crop(image, rows, columns, smallest, generator(seed))
            assert out.size == (columns, rows)
            assert out.getcolors() == [(rows * columns, (255, 128, 3))]

    def test_it_is_a_function_of_its_generator(self):
        image = picture(40, 50)
        once, again, other = (
            random_resized_crop(image, 8, 8, 0.3, generator(s)).tobytes() for s in (1, 1, 2)
        )
        assert once == again != other


class TestAugmentation:
    def test_half_of_the_images_are_mirrored(self, tmp_path):
        fill(tmp_path, ["cat/a.png"])
        images = read(tmp_path)
        plain = images[0][0]
        drawn = [images.augmented(0, generator(seed))[0] for seed in range(300)]
        mirrored = sum(torch.equal(pixels, plain.flip(-1)) for pixels in drawn)
        assert mirrored + sum(torch.equal(pixels, plain) for pixels in drawn) == 300
        assert mirrored == pytest.approx(150, abs=4 * math.sqrt(300) / 2)

    def test_without_flip_and_crop_nothing_changes(self, tmp_path):
        fill(tmp_path, ["cat/a.png"])
        images = read(tmp_path, flip=False)
        for seed in range(20):
            pixels, label, part = images.augmented(0, generator(seed))
            assert torch.equal(pixels, images[0][0])
            assert label == 0
            assert part.height >= pixels.shape[1]

    def test_random_crops_differ_by_sample_and_are_repeatable(self, tmp_path):
        """Sample ``number`` of a training is one picture, whoever asks and when."""
        fill(tmp_path, ["cat/a.png", "newt/b.png"], size=(20, 30))
        images = read(tmp_path, crop="random", crop_scale=0.2)
        first = [TrainingData(images, 3)[n]["image"] for n in range(8)]
        again = [TrainingData(images, 3)[n]["image"] for n in reversed(range(8))][::-1]
        for one, other in zip(first, again, strict=True):
            assert torch.equal(one, other)
        distinct = {pixels.numpy().tobytes() for pixels in first}
        assert len(distinct) == 8
        assert not torch.equal(TrainingData(images, 4)[0]["image"], first[0])

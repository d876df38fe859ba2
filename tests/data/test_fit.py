"""Fitting pictures of any size to a training size, or to its area."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diffgen.config.images import FittedConfig
from diffgen.data.fit import Limits, Part, fit, within
from diffgen.data.shapes import TRAIN, Shapes, draw_image, scene
from diffgen.data.shapes_scene import native_size

side = st.integers(1, 3000)
FINE = FittedConfig(crop="random", crop_scale=0.25)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@settings(deadline=None)
@given(side, side, st.sampled_from([16, 32, 64]), st.sampled_from([1, 4, 8]))
def test_a_whole_picture_keeps_to_the_area_and_its_shape(height, width, target, multiple):
    found = within((height, width), target**2, Limits(multiple))
    assert all(length % multiple == 0 and length >= multiple for length in found)
    assert found[0] * found[1] <= target**2
    shrink = min(1.0, target / math.sqrt(height * width))
    for length, asked in zip(found, (height, width), strict=True):
        if min(height, width) * shrink >= multiple:
            assert asked * shrink - multiple - 1e-6 < length <= asked * shrink + 1e-6


@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        ((256, 256), (256, 256)),
        ((200, 300), (192, 288)),  # smaller than the area: kept, rounded down to 16
        ((512, 512), (256, 256)),
        ((1000, 500), (352, 176)),  # 362.04 x 181.02
        ((8, 300), (16, 288)),  # FiTv2 enlarges a side under 16 to 16
        ((10, 100_000), (16, 4096)),  # and here the area wins over the shape
    ],
)
def test_the_sizes_of_fitv2(picture, expected):
    assert within(picture, 256 * 256, Limits(16)) == expected


def test_no_side_is_longer_than_its_limit():
    assert within((24, 360), 16 * 16, Limits(4, (64, 64))) == (4, 60)
    assert within((24, 360), 16 * 16, Limits(4, (64, 32))) == (4, 32)
    assert within((360, 24), 16 * 16, Limits(4, (32, 64))) == (32, 4)


def test_mixed_crops_half_of_the_pictures_larger_on_both_sides():
    def size(picture, seed):
        return fit(picture, (32, 32), FittedConfig(crop="mixed"), Limits(4), generator(seed)).size

    larger = [size((100, 60), seed) for seed in range(400)]
    assert set(larger) == {(32, 32), (40, 24)}
    assert larger.count((32, 32)) == pytest.approx(200, abs=4 * 10)
    assert {size((100, 32), seed) for seed in range(40)} == {(56, 16)}


def test_a_centre_crop_tells_the_covered_size_and_its_offset():
    found = fit((60, 90), (16, 16), FittedConfig(), Limits(), generator())
    assert found.size == (16, 16)
    assert found.box is None
    assert found.part == pytest.approx((16, 24, 0, 4))


@settings(deadline=None)
@given(st.integers(20, 200), st.integers(20, 200), st.integers(0, 10**6))
def test_a_random_part_lies_in_its_picture_at_the_images_scale(height, width, seed):
    found = fit((height, width), (16, 24), FINE, Limits(), generator(seed))
    left, top, right, bottom = found.box
    scale = 16 / (bottom - top)
    assert found.part.height == pytest.approx(height * scale)
    assert found.part.top == pytest.approx(top * scale)
    assert found.part.left == pytest.approx(left * 24 / (right - left))
    assert found.part.top + 16 <= found.part.height + 1e-6
    assert found.part.left + 24 <= found.part.width + 1e-6
    largest = min(height / 16, width / 24)
    assert 1 - 1e-6 <= largest * scale <= 2 + 1e-6


def test_a_share_of_the_images_is_not_cropped_at_random():
    config = FittedConfig(crop="random", crop_scale=0.25, crop_share=0.7)
    found = [fit((40, 40), (16, 16), config, Limits(), generator(seed)) for seed in range(400)]
    assert sum(one.box is None for one in found) == pytest.approx(120, abs=4 * math.sqrt(84))
    assert {one.part for one in found if one.box is None} == {Part(16, 16, 0, 0)}


def test_a_mirrored_part_counts_from_the_other_side():
    assert Part(40, 60, 3, 10).mirrored(32) == Part(40, 60, 3, 18)


@pytest.mark.parametrize("config", [FINE, FittedConfig()])
def test_the_limits_of_whole_pictures_leave_crops_alone(config):
    for seed in range(10):
        free = fit((400, 300), (16, 16), config, Limits(), generator(seed))
        assert fit((400, 300), (16, 16), config, Limits(4, (32, 40)), generator(seed)) == free
    fine = FittedConfig(crop="random", crop_scale=0.04)
    held = Shapes(16, 16, fitting=fine, limits=Limits(4, (32, 64)))
    free = Shapes(16, 16, fitting=fine)
    for seed in range(10):
        image, _, part = held.augmented(0, generator(seed))
        as_free, _, its_part = free.augmented(0, generator(seed))
        assert torch.equal(image, as_free)
        assert part == its_part


class TestShapes:
    def test_a_random_part_is_cut_out_of_a_larger_drawing(self):
        images = Shapes(16, 24, fitting=FINE)
        sizes = set()
        for seed in range(30):
            pixels, label, part = images.augmented(5, generator(seed))
            height, width, top, left = map(int, part)
            whole = draw_image(scene(5), height, width)
            assert np.array_equal(pixels, whole[:, top : top + 16, left : left + 24])
            assert label == scene(5).label
            sizes.add((height, width))
        assert len(sizes) > 10
        assert all(16 <= height <= 32 and 24 <= width <= 48 for height, width in sizes)

    def test_whole_drawings_have_sizes_of_their_own_below_the_area(self):
        images = Shapes(32, 32, fitting=FittedConfig(crop="none"), limits=Limits(4))
        tokens = []
        for i in range(300):
            pixels, _, part = images.augmented(i, generator())
            height, width = pixels.shape[1:]
            assert part == (height, width, 0, 0)
            assert (height, width) == within(native_size(TRAIN[i]), 32 * 32, Limits(4))
            assert np.array_equal(pixels, draw_image(scene(i), height, width))
            tokens.append(height * width // 16)
        assert max(tokens) <= 64
        assert len(set(tokens)) > 15

    def test_native_sizes_are_log_uniform(self):
        sizes = np.array([native_size(i) for i in range(4000)], float)
        area = np.log(sizes.prod(axis=1) / 16**2) / np.log(16)
        aspect = np.log2(sizes[:, 0] / sizes[:, 1])
        for value, low, high in ((area, 0, 1), (aspect, -1, 1)):
            assert low - 0.1 < value.min() < value.max() < high + 0.1
            assert value.mean() == pytest.approx((low + high) / 2, abs=0.02 * (high - low))
            assert value.std() == pytest.approx((high - low) / math.sqrt(12), rel=0.03)

    def test_a_centred_one_is_the_item_itself(self):
        images = Shapes(16, 24)
        pixels, label, part = images.augmented(3, generator())
        assert torch.equal(pixels, images[3][0])
        assert label == images[3][1]
        assert part == (16, 24, 0, 0)

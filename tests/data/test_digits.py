from importlib import resources

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from diffgen.data.digits import CLASS_NAMES, Digits, load, split_indices


def test_the_shipped_file_is_the_published_data():
    published = load_digits()
    images, labels = load()
    assert images.dtype == labels.dtype == np.uint8
    assert np.array_equal(images, published.images)
    assert np.array_equal(labels, published.target)
    size = resources.files("diffgen.data").joinpath("digits.npz").stat().st_size
    assert size < 60_000


def test_the_split_is_disjoint_complete_and_stratified():
    train, held_out = split_indices("train"), split_indices("held_out")
    assert (len(train), len(held_out)) == (1501, 296)
    assert np.array_equal(np.sort(np.concatenate([train, held_out])), np.arange(1797))
    labels = load()[1]
    shares = np.bincount(labels[held_out]) / np.bincount(labels)
    assert np.abs(shares - 1 / 6).max() < 0.01


def test_at_eight_pixels_an_item_is_the_stored_digit():
    data = Digits(8, 8)
    images, labels = load()
    for i in (0, 700, 1500):
        image, label = data[i]
        position = data.indices[i]
        assert label == labels[position]
        assert type(label) is int
        expected = torch.from_numpy(images[position]).float() / 8 - 1
        assert torch.allclose(image, expected.expand(3, 8, 8), atol=1e-6)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (16, 40), (48, 24)])
def test_a_digit_is_centred_on_black_and_not_stretched(height, width):
    side = min(height, width)
    data, square = Digits(height, width, "held_out"), Digits(side, side, "held_out")
    assert data.class_names == CLASS_NAMES
    assert len(data) == 296
    for i in range(20):
        image = data[i][0]
        assert image.shape == (3, height, width)
        assert image.dtype == torch.float32
        assert image.abs().max() <= 1
        top, left = (height - side) // 2, (width - side) // 2
        assert torch.equal(image[:, top : top + side, left : left + side], square[i][0])
        outside = image.clone()
        outside[:, top : top + side, left : left + side] = -1
        assert (outside == -1).all()
        # Averaging blocks undoes the enlargement up to the bicubic filter's own softness.
        if side % 8 == 0:
            small = torch.nn.functional.adaptive_avg_pool2d(square[i][0], 8)
            assert (small - Digits(8, 8, "held_out")[i][0]).abs().mean() < 0.15


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((32, 32, "test"), "'test'; allowed: train, held_out"), ((32, 6), "32 x 6")],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        Digits(*arguments)

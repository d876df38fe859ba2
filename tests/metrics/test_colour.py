"""Colour measures: values worked out by hand, another library's, and the same in parts."""

import numpy as np
import pytest
import torch
from skimage.color import rgb2hsv

from diffgen.metrics.colour import MEASURES, colour_means, colour_measures
from diffgen.metrics.faces import Colour


def flat(*colours: tuple[int, int, int]) -> torch.Tensor:
    """(1, 3, 1, N) with these pixels."""
    return torch.tensor(colours, dtype=torch.uint8).T.reshape(1, 3, 1, -1)


def measured(images: torch.Tensor) -> dict[str, float]:
    return dict(zip(MEASURES, colour_measures(images)[0].tolist(), strict=True))


def noise(count: int = 5) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, 7, 9), generator=generator, dtype=torch.uint8)


def test_grey_has_no_colour_and_one_colour_no_contrast():
    grey = measured(flat((90, 90, 90), (30, 30, 30)))
    assert (grey["saturation"], grey["colourfulness"], grey["clipped"]) == (0, 0, 0)
    assert grey["contrast"] == pytest.approx(30 / 255)
    red = measured(flat((200, 50, 50), (200, 50, 50)))
    assert red["saturation"] == pytest.approx(0.75)
    assert red["contrast"] == pytest.approx(0)
    assert red["colourfulness"] == pytest.approx(0.3 * np.hypot(150, 75))


def test_black_and_white_are_clipped_and_unsaturated():
    found = measured(flat((0, 0, 0), (255, 255, 255), (255, 10, 10), (128, 0, 128), (9, 9, 9)))
    assert found["clipped"] == pytest.approx(4 / 5)
    assert found["saturation"] == pytest.approx((0 + 0 + 245 / 255 + 1 + 0) / 5)


def test_colourfulness_of_two_pixels_by_hand():
    """rg = 100, -100; yb = 50, 50: spread (100, 0), mean (0, 50)."""
    found = measured(flat((100, 0, 0), (0, 100, 0)))
    assert found["colourfulness"] == pytest.approx(100 + 0.3 * 50)


def test_saturation_is_that_of_scikit_image():
    images = noise()
    theirs = [rgb2hsv(image.permute(1, 2, 0).numpy())[..., 1].mean() for image in images]
    np.testing.assert_allclose(colour_measures(images)[:, 0], theirs, atol=1e-12)


def test_means_and_intervals_are_of_images():
    measures = colour_measures(noise(50))
    found = colour_means(measures)
    assert list(found) == list(MEASURES)
    for k, name in enumerate(MEASURES):
        values = measures[:, k].numpy()
        low, high = found[name].interval
        assert found[name].mean == pytest.approx(values.mean())
        half = 2.0095752 * values.std(ddof=1) / np.sqrt(50)  # t of 49 degrees
        assert (high - low) / 2 == pytest.approx(half, rel=1e-6)


def test_images_that_measure_alike_leave_no_interval():
    """Pictures without a pixel at 0 or 255 clip nothing: that is not certain of other pictures."""
    found = colour_means(colour_measures(noise(8).clamp(1, 254)))
    assert (found["clipped"].mean, found["clipped"].interval) == (0, None)
    assert found["saturation"].interval is not None
    assert colour_means(colour_measures(noise(1)))["contrast"].interval is None


def test_the_metric_gives_the_same_means_whatever_the_batches():
    images, whole, parts = noise(6), Colour(), Colour()
    whole.update(images)
    for part in images.split([1, 3, 2]):
        parts.update(part)
    expected = {name: mean.mean for name, mean in colour_means(colour_measures(images)).items()}
    for metric in (whole, parts):
        found = {name: float(value) for name, value in metric.compute().items()}
        assert found == pytest.approx(expected, rel=1e-12)
    assert parts.half().measure_sum.dtype == torch.float64


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_no_images_have_no_colour():
    with pytest.raises(ValueError, match="no images"):
        Colour().compute()


@pytest.mark.parametrize(
    "images", [torch.zeros(1, 3, 4, 4), torch.zeros(3, 4, 4, dtype=torch.uint8), noise()[:, :1]]
)
def test_other_images_are_refused(images):
    with pytest.raises(ValueError, match=r"images must be \(B, 3, H, W\) uint8"):
        colour_measures(images)

"""Memorisation figures against numpy, brute force and cases worked out by hand."""

import math

import numpy as np
import pytest
import torch

from diffgen.metrics.memorisation import (
    correlation,
    memorised,
    nearest_correlation,
    psnr,
    psnr_parts,
    squared_errors,
)


def images(count: int, seed: int) -> torch.Tensor:
    return torch.rand(count, 3, 4, 5, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_correlation_is_numpys_for_every_pair():
    first, second = images(6, 0), images(6, 1)
    wanted = [
        np.corrcoef(a.flatten(), b.flatten())[0, 1] for a, b in zip(first, second, strict=True)
    ]
    assert correlation(first, second).numpy() == pytest.approx(np.array(wanted), abs=1e-6)


def test_brightness_and_contrast_do_not_count_but_sign_does():
    x = images(4, 2)
    assert correlation(x, 0.3 * x + 0.5).tolist() == pytest.approx([1.0] * 4)
    assert correlation(x, -x).tolist() == pytest.approx([-1.0] * 4)


def test_a_constant_image_is_like_none():
    grey = torch.full((1, 3, 4, 5), 0.3)
    assert correlation(grey, images(1, 3)).tolist() == [0.0]
    assert correlation(grey, grey).tolist() == [0.0]


def test_images_that_are_no_pairs_are_refused():
    with pytest.raises(ValueError, match="must come in pairs"):
        correlation(images(3, 0), images(2, 0))


@pytest.mark.parametrize("block_size", [1, 7, 100])
def test_the_nearest_reference_is_the_one_of_largest_correlation(block_size):
    queries, references = images(5, 4), images(20, 5)
    every = torch.stack([correlation(queries, one.expand_as(queries)) for one in references])
    values, which = nearest_correlation(queries, references, block_size)
    assert torch.equal(which, every.argmax(0))
    assert torch.allclose(values, every.amax(0), atol=1e-12)


def test_a_copy_is_found_and_of_two_copies_the_first():
    references = images(9, 6)
    references[7] = references[2]
    values, which = nearest_correlation(references[[7, 4]], references, block_size=4)
    assert which.tolist() == [2, 4]
    assert values.tolist() == pytest.approx([1.0, 1.0])


def test_memorised_is_three_times_nearer_to_one_than_to_any_other():
    two = torch.tensor([[0.0], [4.0]])
    asked = torch.tensor([[0.0], [0.99], [1.0], [2.0], [3.01], [-1.0], [-3.0]])
    assert memorised(asked, two).tolist() == [True, True, False, False, True, True, False]


def test_a_training_image_that_occurs_twice_hides_its_copies():
    assert memorised(torch.zeros(1, 1), torch.tensor([[0.0], [0.0], [4.0]])).tolist() == [False]


def test_psnr_of_known_errors():
    assert psnr(1.0, 255) == pytest.approx(48.1308, abs=1e-4)  # one grey level of 8 bits
    assert psnr(0.25) == pytest.approx(20 * math.log10(2 / 0.5))
    assert psnr(0.0) == math.inf


def test_errors_are_means_over_the_pixels_of_each_image():
    found, wanted = torch.zeros(2, 1, 2, 2), torch.tensor([[[[1.0, 3.0], [0.0, 0.0]]]] * 2)
    wanted[1] *= 2
    assert squared_errors(found, wanted).tolist() == [2.5, 10.0]


def test_parts_of_a_psnr_have_its_value_as_their_mean_and_its_error_in_their_spread():
    """Of 300 exponential errors, whose mean is known to 1 / sqrt(300) of itself."""
    draws = np.random.default_rng(0).exponential(0.1, (2000, 300))
    levels = [psnr(float(one.mean())) for one in draws]
    parts = psnr_parts(draws[0].tolist())
    assert np.mean(parts) == pytest.approx(levels[0])
    assert np.std(parts, ddof=1) / 300**0.5 == pytest.approx(np.std(levels), rel=0.15)
    assert psnr_parts([0.1, 0.1]) == pytest.approx([psnr(0.1)] * 2)
    with pytest.raises(ValueError, match="no finite PSNR"):
        psnr_parts([0.0, 0.0])

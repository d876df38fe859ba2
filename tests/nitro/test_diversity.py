"""The share of a teacher's variety that is left: 0 of one image a class, 1 of its own."""

import pytest
import torch

from diffgen.nitro.diversity import diversity, within

LABELS = torch.tensor([0, 1, 2] * 20)
IMAGES = torch.randn(60, 3, 4, 4, generator=torch.Generator().manual_seed(0))


def test_the_teacher_itself_has_1_and_one_image_a_class_0():
    assert diversity(IMAGES, IMAGES, LABELS) == 1
    assert diversity(IMAGES[LABELS], IMAGES, LABELS) == 0


def test_it_counts_squares_and_ignores_where_a_class_lies():
    centres = 5 * torch.randn(3, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    assert diversity(0.5 * IMAGES, IMAGES, LABELS) == pytest.approx(0.25)
    assert diversity(IMAGES + centres[LABELS], IMAGES, LABELS) == pytest.approx(1, rel=1e-5)
    assert diversity(3 * IMAGES + 7, 3 * IMAGES, LABELS) == pytest.approx(1, rel=1e-5)


def test_images_that_differ_between_classes_alone_have_no_variety():
    """Of all images the variance is that of the classes' means; within a class there is none."""
    drawn = torch.tensor([0.0, 4.0, 8.0])[LABELS].view(-1, 1, 1, 1).expand_as(IMAGES)
    assert drawn.var() > 1
    assert diversity(drawn, IMAGES, LABELS) == 0


def test_half_the_classes_collapsed_leave_the_others_share():
    labels = torch.tensor([0, 1] * 30)
    half = torch.where((labels == 1).view(-1, 1, 1, 1), IMAGES, IMAGES[:1])
    expected = within(IMAGES[labels == 1], labels[labels == 1]) / 2 / within(IMAGES, labels)
    assert diversity(half, IMAGES, labels) == pytest.approx(expected.item())


def test_the_variance_within_is_that_of_the_definition():
    images, labels = torch.tensor([[0.0], [2.0], [10.0], [16.0]]), torch.tensor([0, 0, 1, 1])
    assert within(images, labels).item() == (1 + 1 + 9 + 9) / 4
    assert within(images, labels).dtype == torch.float64

"""Maps as pictures and back."""

import pytest
import torch

from diffgen.joint.maps import as_picture, from_picture
from diffgen.lacon.conditions import CONDITIONS, DEPTH, EDGE, STROKE
from tests.aligners import maps


@pytest.mark.parametrize("condition", CONDITIONS, ids=lambda condition: condition.name)
def test_a_map_comes_back_from_its_picture(condition):
    given = maps(condition, 2, (4, 6))
    picture = as_picture(given, condition)
    assert picture.shape == (2, 3, 4, 6)
    assert picture.min() >= -1
    assert picture.max() <= 1
    torch.testing.assert_close(from_picture(picture, condition), given)


def test_grey_maps_are_grey_pictures_and_binary_ones_black_and_white():
    picture = as_picture(torch.tensor([0.0, 0.25, 1.0]).reshape(1, 1, 1, 3), EDGE)
    assert picture[0, :, 0].tolist() == [[-1.0, -0.5, 1.0]] * 3
    picture = as_picture(torch.tensor([-1.0, 0.25, 1.0]).reshape(1, 1, 1, 3), DEPTH)
    assert picture[0, :, 0].tolist() == [[-1.0, 0.25, 1.0]] * 3


def test_a_drawn_map_is_the_mean_of_the_colours_and_stays_in_its_range():
    """Clipped after the mean, since a model draws grey as one colour too bright, one too dark."""
    drawn = torch.tensor([[0.25, 1.6, -2.0], [0.5, 0.4, -2.0], [0.75, 0.4, -2.0]])
    drawn = drawn.reshape(1, 3, 1, 3)
    assert from_picture(drawn, DEPTH).flatten().tolist() == pytest.approx([0.5, 0.8, -1])
    assert from_picture(drawn, EDGE).flatten().tolist() == pytest.approx([0.75, 0.9, 0])
    assert torch.equal(from_picture(drawn, STROKE), drawn.clamp(-1, 1))

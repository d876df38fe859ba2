"""Images to tokens and back."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diffgen.models.tokens import grid_coords, patchify, unpatchify

sides = st.integers(1, 5)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 3), st.integers(1, 4), sides, sides, st.sampled_from([1, 2, 4]))
def test_unpatchify_inverts_patchify(batch, channels, rows, columns, patch):
    x = torch.arange(batch * channels * rows * columns * patch**2, dtype=torch.float32)
    x = x.reshape(batch, channels, rows * patch, columns * patch)
    tokens = patchify(x, patch)
    assert tokens.shape == (batch, rows * columns, channels * patch**2)
    assert torch.equal(unpatchify(tokens, rows, columns, patch), x)


def test_tokens_are_row_major_and_channel_major_inside():
    """A 2-channel 4 x 6 picture whose pixels say where they are: 100 c + 10 row + column."""
    c, row, column = torch.meshgrid(
        torch.arange(2), torch.arange(4), torch.arange(6), indexing="ij"
    )
    tokens = patchify((100 * c + 10 * row + column)[None].float(), 2)[0]
    assert tokens.shape == (6, 8)
    assert tokens[0].tolist() == [0, 1, 10, 11, 100, 101, 110, 111]
    assert tokens[1].tolist() == [2, 3, 12, 13, 102, 103, 112, 113]  # to the right of the first
    assert tokens[3].tolist() == [20, 21, 30, 31, 120, 121, 130, 131]  # below the first


def test_coordinates_are_the_place_of_each_token():
    """The coordinate of a token is its top-left pixel's place over the patch."""
    row, column = torch.meshgrid(torch.arange(6), torch.arange(10), indexing="ij")
    tokens = patchify(torch.stack([row, column])[None].float(), 2)[0]
    corners = tokens.unflatten(-1, (2, 4))[..., 0]  # first pixel of the row and column channels
    assert torch.equal(grid_coords(3, 5), corners / 2)


@pytest.mark.parametrize(("height", "width"), [(7, 8), (8, 6)])
def test_a_size_the_patch_does_not_divide_is_refused(height, width):
    with pytest.raises(ValueError, match=f"{height}x{width} is not divisible by the patch size 4"):
        patchify(torch.zeros(1, 3, height, width), 4)

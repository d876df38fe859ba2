"""Images to tokens and back."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diffgen.models.tokens import grid_coords, pack, pad, patchify, unpack, unpatchify

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


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=1, max_size=6))
def test_unpack_is_the_inverse_of_pack_and_padded_of_packed(grids):
    generator = torch.Generator().manual_seed(0)
    images = [torch.randn(3, 2 * h, 2 * w, generator=generator) for h, w in grids]
    packed = pack(images, 2)
    assert packed.sizes.tolist() == [list(grid) for grid in grids]
    assert packed.lengths.tolist() == [h * w for h, w in grids]
    for one, other in zip(unpack(packed.tokens, packed.sizes, 2), images, strict=True):
        assert torch.equal(one, other)
    places = packed.coords.split(packed.lengths.tolist())
    for piece, (h, w) in zip(places, grids, strict=True):
        assert torch.equal(piece, grid_coords(h, w))
    padded, mask = pad(packed.tokens, packed.lengths)
    assert torch.equal(padded[mask], packed.tokens)
    assert torch.equal(mask.sum(dim=1), packed.lengths)
    assert not padded[~mask].any()


def test_pack_refuses_a_side_the_patch_does_not_divide():
    with pytest.raises(ValueError, match="3x4 is not divisible by the patch size 2"):
        pack([torch.zeros(3, 4, 4), torch.zeros(3, 3, 4)], 2)

"""Condition files as maps and cutouts, and the sizes they can be used at."""

from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from diffgen.commands.condition_files import ConditionFile, cutout, fitted, stored_map
from diffgen.commands.condition_kinds import cell_side
from diffgen.config.condition_sizes import nearest_size, same_shape
from diffgen.errors import UserError
from diffgen.lacon.conditions import DEPTH, EDGE, MASK, PALETTE


def file(image, kind="PNG", **options) -> ConditionFile:
    """An image, or the array of one, as a condition file."""
    image = image if isinstance(image, Image.Image) else Image.fromarray(np.asarray(image))
    stored = BytesIO()
    image.save(stored, kind, **options)
    return ConditionFile("constraint: x.png", stored.getvalue())


def grey_image(values, dtype=np.uint8) -> Image.Image:
    return Image.fromarray(np.asarray(values).astype(dtype))


class TestMaps:
    def test_a_line_of_one_pixel_outlives_shrinking(self):
        levels = np.zeros((64, 64))
        levels[:, 21] = 255
        small = fitted(stored_map(file(grey_image(levels)), EDGE), EDGE.shrink, (8, 8), (8, 8))
        wanted = torch.zeros(1, 1, 8, 8)
        wanted[..., 2] = 1
        assert torch.equal(small, wanted)

    def test_a_mask_shrinks_to_the_share_it_covers(self):
        levels = np.zeros((8, 8))
        levels[:2, :1] = 255
        small = fitted(stored_map(file(grey_image(levels)), MASK), MASK.shrink, (2, 2), (2, 2))
        assert small.flatten().tolist() == [0.125, 0, 0, 0]

    def test_a_small_mask_grows_smoothly_and_a_small_palette_in_squares(self):
        levels = np.array([[0, 255]])
        mask = fitted(stored_map(file(grey_image(levels)), MASK), MASK.shrink, (2, 4), (2, 4))
        assert mask[0, 0, 0].tolist() == [0, 0.25, 0.75, 1]
        cells = np.zeros((1, 2, 3), np.uint8)
        cells[0, 1] = (255, 0, 255)
        shown = stored_map(file(cells), PALETTE)
        palette = fitted(shown, PALETTE.shrink, (2, 4), (2, 4))
        assert palette[0, :, 0].tolist() == [[-1, -1, 1, 1], [-1, -1, -1, -1], [-1, -1, 1, 1]]

    def test_black_is_near_and_white_is_far(self):
        found = stored_map(file(grey_image([[0, 255]])), DEPTH)
        assert torch.equal(found, DEPTH.from_stored(torch.tensor([[[[1.0, 10.0]]]])))

    def test_grey_of_16_bits_has_the_levels_of_8(self):
        deep = stored_map(file(grey_image([[0, 257 * 100, 65535]], np.uint16)), MASK)
        assert torch.equal(deep, stored_map(file(grey_image([[0, 100, 255]])), MASK))

    def test_a_rotated_photograph_of_a_map_lies_upright(self):
        exif = Image.Exif()
        exif[0x0112] = 6  # to be turned by 90 degrees to the right
        turned = file(grey_image(np.eye(16)[:, :8] * 255), "PNG", exif=exif)
        assert stored_map(turned, MASK).shape == (1, 1, 8, 16)

    def test_a_grey_palette_is_a_palette_of_greys(self):
        found = stored_map(file(grey_image([[51]])), PALETTE)
        assert found.flatten().tolist() == pytest.approx([-0.6] * 3)

    def test_colour_is_refused_where_grey_is_needed_but_not_what_jpeg_leaves(self):
        image = np.full((4, 4, 3), 100, np.uint8)
        image[0, 0, 2] = 108
        assert stored_map(file(image), MASK).shape == (1, 1, 4, 4)
        image[0, 0, 2] = 109
        with pytest.raises(
            UserError, match=r"is a colour image.* up to 9 .*--constraint-from pict"
        ):
            stored_map(file(image), MASK)
        with pytest.raises(UserError, match=r"but a grey one is needed$"):
            stored_map(file(image), DEPTH)  # which no picture shows

    def test_black_edges_on_white_are_refused(self):
        with pytest.raises(UserError, match="edges are white on black; invert it"):
            stored_map(file(grey_image(255 - 255 * np.eye(8))), EDGE)
        assert stored_map(file(grey_image(255 - 255 * np.eye(8))), MASK).mean() == 0.875

    def test_white_on_transparent_is_a_mask_and_black_on_transparent_shows_nothing(self):
        layers = np.zeros((2, 2, 4), np.uint8)
        layers[0, 0] = (255, 255, 255, 255)
        assert stored_map(file(layers), MASK).flatten().tolist() == [1, 0, 0, 0]
        layers[0, 0] = (0, 0, 0, 255)
        with pytest.raises(UserError, match="shows nothing: its transparent parts count as black"):
            stored_map(file(layers), MASK)
        assert not stored_map(file(grey_image([[0]])), MASK).any()  # an empty mask is one

    def test_what_pillow_cannot_read_is_named(self):
        whole = file(grey_image(np.arange(64 * 64).reshape(64, 64) % 251))
        for data, why in ((b"hello", "no known image format"), (whole.data[:-60], "truncated")):
            broken = ConditionFile("constraint: edge=x.png", data)
            with pytest.raises(UserError, match=f"edge=x.png is not a readable image: .*{why}"):
                stored_map(broken, MASK)


class TestCutouts:
    def cut(self, side, edge):
        """Red up to column ``edge``, then transparent green."""
        layers = np.zeros((side, side, 4), np.uint8)
        layers[:, :edge] = (255, 0, 0, 255)
        layers[:, edge:] = (0, 255, 0, 0)
        return file(layers)

    def test_only_opaque_pixels_are_known(self):
        layers = np.full((1, 3, 4), 200, np.uint8)
        layers[0, :, 3] = (255, 254, 0)
        pixels, known = cutout(file(layers), (1, 3))
        assert known.flatten().tolist() == [1, 0, 0]
        assert pixels[0, :, 0, 0].tolist() == pytest.approx([200 / 127.5 - 1] * 3)
        assert pixels[0, :, 0, 2].tolist() == [0, 0, 0]

    @pytest.mark.parametrize(
        ("side", "edge", "known_columns"), [(64, 20, 2), (40, 22, 4), (4, 2, 3)]
    )
    def test_nothing_of_the_unknown_bleeds_into_the_known(self, side, edge, known_columns):
        pixels, known = cutout(self.cut(side, edge), (8, 8))
        assert known[0, 0].sum(dim=1).tolist() == [known_columns] * 8
        red = torch.tensor([1.0, -1, -1]).view(1, 3, 1, 1).expand_as(pixels)
        inside = known.bool().expand_as(pixels)
        torch.testing.assert_close(pixels[inside], red[inside], rtol=0, atol=1e-5)

    def test_a_picture_that_is_all_opaque_or_all_transparent_is_refused(self):
        for edge, said in ((0, "transparent"), (4, "opaque")):
            with pytest.raises(UserError, match=f"is {said} everywhere"):
                cutout(self.cut(4, edge), (4, 4))


@pytest.mark.parametrize(
    ("own", "side"),
    [((32, 32), 4), ((48, 32), 4), ((12, 12), 2), ((8, 8), 1), ((24, 40), 4), ((34, 26), 2)],
)
def test_cells_divide_both_sides_and_leave_eight_along_the_shorter(own, side):
    assert cell_side(own) == side


def test_shapes_are_one_within_2_percent_and_a_size_next_to_the_one_asked_for_is_named():
    assert same_shape((100, 102), (32, 32))
    assert not same_shape((100, 103), (32, 32))
    assert nearest_size((512, 512), (48, 32), 4) == (48, 48)
    assert nearest_size((1080, 1920), (32, 32), 4) == (16, 28)
    assert nearest_size((1000, 10), (32, 32), 4) is None
    for shape in ((300, 200), (200, 300), (640, 480), (123, 456)):
        found = nearest_size(shape, (64, 64), 2)
        assert same_shape(shape, found)
        assert [side % 2 for side in found] == [0, 0]

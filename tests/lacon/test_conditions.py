"""Conditions found in pictures: what they show, at any size, each picture's by itself."""

import pickle

import pytest
import torch
from torch import Tensor

from diffgen.data.shapes import Shapes
from diffgen.errors import UserError
from diffgen.lacon.conditions import (
    CONDITIONS,
    DEPTH,
    EDGE,
    MASK,
    PALETTE,
    STROKE,
    averaged,
    strongest,
)
from diffgen.lacon.fidelity import iou
from diffgen.lacon.saliency import otsu

FOUND = [EDGE, MASK, STROKE, PALETTE]
SIZES = [(32, 32), (33, 47), (64, 24), (8, 8)]


def shapes(count: int, height: int, width: int) -> tuple[Tensor, dict[str, Tensor]]:
    """Held-out pictures and their exact maps."""
    data = Shapes(height, width, "held_out", count)
    maps = [data.maps(i) for i in range(count)]
    images = torch.stack([data[i][0] for i in range(count)])
    return images, {name: torch.stack([each[name] for each in maps]) for name in maps[0]}


def disc(size: int = 32, radius: float = 8.0) -> Tensor:
    """(1, 1, size, size), 1 inside."""
    offset = torch.arange(size) - size / 2 + 0.5
    return ((offset[:, None] ** 2 + offset**2) <= radius**2).float()[None, None]


class TestEveryCondition:
    @pytest.mark.parametrize("condition", FOUND, ids=lambda condition: condition.name)
    @pytest.mark.parametrize("size", SIZES)
    def test_maps_have_the_pictures_size_and_the_stated_range(self, condition, size):
        images, _ = shapes(6, *size)
        found = condition.of(images)
        assert found.shape == (6, condition.channels, *size)
        assert found.dtype == torch.float32
        assert found.min() >= (0 if condition.binary else -1)
        assert found.max() <= 1
        assert found.std() > 0.05
        if condition.binary:
            assert set(found.unique().tolist()) == {0.0, 1.0}

    @pytest.mark.parametrize("condition", FOUND, ids=lambda condition: condition.name)
    @pytest.mark.parametrize("size", SIZES)
    def test_a_picture_has_its_map_to_the_bit_in_any_company(self, condition, size):
        images, _ = shapes(6, *size)
        together = condition.of(images)
        assert torch.equal(condition.of(images), together)
        assert torch.equal(condition.of(images.flip(0)).flip(0), together)
        for k in range(6):
            assert torch.equal(condition.of(images[k : k + 1])[0], together[k])

    @pytest.mark.parametrize("condition", FOUND, ids=lambda condition: condition.name)
    def test_fp64_pictures_are_taken(self, condition):
        images, _ = shapes(3, 32, 32)
        found = condition.of(images.double())
        assert (found.float() - condition.of(images)).abs().mean() < 1e-3

    @pytest.mark.parametrize("condition", CONDITIONS, ids=lambda condition: condition.name)
    def test_workers_of_a_loader_can_be_sent_it(self, condition):
        assert pickle.loads(pickle.dumps(condition)) == condition

    @pytest.mark.parametrize("size", [(32, 32), (33, 47)])
    def test_a_picture_of_one_colour_has_no_edge_and_nothing_salient(self, size):
        generator = torch.Generator().manual_seed(0)
        colours = torch.rand(40, 3, 1, 1, generator=generator) * 2 - 1
        pictures = colours.expand(40, 3, *size)
        for some in (pictures, *pictures.split(1)):  # rounding is another in another company
            assert not EDGE.of(some).any()
            assert not MASK.of(some).any()
        for condition in (STROKE, PALETTE):
            assert (condition.of(pictures) - pictures).abs().max() <= 1 / 255 + 1e-6


class TestEdges:
    def test_a_step_has_one_line_from_border_to_border(self):
        picture = torch.full((2, 3, 24, 32), -0.5)
        picture[0, :, :, 13:] = 0.5
        picture[1, :, 9:] = 0.5
        found = EDGE.of(picture)
        assert found[0].sum(dim=1).count_nonzero() == 1
        assert int(found[0, 0].sum(dim=0).argmax()) in (12, 13)
        assert found[0].sum() == 24
        assert found[1].sum() == 32
        assert int(found[1, 0].sum(dim=1).argmax()) in (8, 9)

    @pytest.mark.parametrize(("contrast", "seen"), [(0.07, False), (0.08, True)])
    def test_a_step_of_8_percent_of_the_grey_scale_is_one(self, contrast, seen):
        picture = torch.full((1, 3, 32, 32), -0.5)
        picture[..., 16:] += 2 * contrast
        assert bool(EDGE.of(picture).any()) == seen

    def test_weak_edges_count_where_they_join_strong_ones(self):
        """Hysteresis: a line whose contrast fades, and the same faint line alone."""
        picture = torch.full((2, 3, 32, 32), -0.5)
        picture[0, :, 16:] += 2 * torch.linspace(0.2, 0.05, 32)
        picture[1, :, 16:] += 2 * 0.05
        found = EDGE.of(picture)
        assert found[0].sum() >= 30
        assert not found[1].any()

    def test_shapes_outlines_are_found(self):
        images, maps = shapes(50, 64, 64)
        outline = (maps["edge"] > 0.3).float()
        near = torch.nn.functional.max_pool2d(outline, 3, stride=1, padding=1)
        found = EDGE.of(images)
        assert (found * near).sum() / found.sum() > 0.9


class TestSaliency:
    @pytest.mark.parametrize("inside", [1.0, -1.0])
    def test_a_disc_is_found_bright_or_dark(self, inside):
        wanted = disc()
        picture = (inside * (2 * wanted - 1) * 0.8).expand(1, 3, 32, 32)
        assert float(iou(MASK.of(picture), wanted)) > 0.9

    def test_a_disc_of_another_hue_is_found_at_equal_luma(self):
        wanted = disc()
        red, green = (torch.tensor(c).view(1, 3, 1, 1) for c in ([0.4, -0.5, -0.5], [-0.45] * 3))
        picture = wanted * red + (1 - wanted) * green
        assert float(iou(MASK.of(picture), wanted)) > 0.9

    def test_of_shapes_it_finds_the_objects(self):
        """0.86 on average with the front object's exact mask, of 200 held-out pictures."""
        images, maps = shapes(200, 32, 32)
        overlap = iou(MASK.of(images), MASK.from_stored(maps["mask"]))
        assert overlap.mean() > 0.84
        assert overlap.quantile(0.1) > 0.7

    def test_otsu_parts_two_levels(self):
        """Between the clusters, wherever they lie; each map has its own."""
        generator = torch.Generator().manual_seed(0)
        maps = 0.02 * torch.randn(2, 1, 20, 20, generator=generator)
        maps[0, :, :5] += 1
        maps[1, :, :15] += 7
        maps[1] += 3
        found = otsu(maps)
        assert found.shape == (2, 1, 1, 1)
        assert 0.05 < float(found[0]) < 0.95
        assert 3.05 < float(found[1]) < 9.95
        assert (maps > found).sum(dim=(1, 2, 3)).tolist() == [100, 300]


class TestColours:
    @pytest.mark.parametrize("size", [(32, 32), (33, 47), (130, 170)])
    def test_strokes_have_at_most_16_colours(self, size):
        generator = torch.Generator().manual_seed(0)
        noise = torch.rand(2, 3, *size, generator=generator) * 2 - 1
        for picture in (noise, shapes(2, *size)[0]):
            for found in STROKE.of(picture):
                assert 2 < len(found.flatten(1).unique(dim=1).T) <= 16

    @pytest.mark.parametrize("side", [128, 256, 512])
    def test_strokes_lose_a_spot_narrower_than_the_brush_and_keep_a_wider_one(self, side):
        """The brush is 23 of 512 pixels wide, or as much of another side."""
        picture = torch.full((2, 3, side, side), -0.5)
        middle, narrow, wide = side // 2, side // 64, side // 32
        for each, reach in zip(picture, (narrow, wide), strict=True):
            each[:, middle - reach : middle + reach, middle - reach : middle + reach] = 1
        found = STROKE.of(picture)
        assert found[0].max() < -0.49
        assert found[1, :, middle, middle].min() > 0.98

    def test_strokes_of_a_larger_picture_are_those_of_the_smaller_one(self):
        """A brush is a share of the picture, also where the picture is made smaller for it."""
        small, large = (STROKE.of(shapes(8, side, side)[0]) for side in (64, 256))
        reduced = averaged(large, (64, 64))
        assert (reduced - small).square().mean().sqrt() < 0.12
        assert large.shape == (8, 3, 256, 256)

    @pytest.mark.parametrize("size", [(32, 32), (33, 47), (47, 33), (64, 24), (5, 9)])
    def test_the_palette_of_a_palette_is_itself(self, size):
        generator = torch.Generator().manual_seed(0)
        picture = torch.rand(2, 3, *size, generator=generator) * 2 - 1
        palette = PALETTE.of(picture)
        torch.testing.assert_close(PALETTE.of(palette), palette, rtol=0, atol=1e-6)
        torch.testing.assert_close(palette.mean(), picture.mean(), rtol=0, atol=0.02)

    @pytest.mark.parametrize(("size", "grid"), [((32, 32), (8, 8)), ((64, 24), (21, 8))])
    def test_a_palette_has_8_cells_along_the_short_side(self, size, grid):
        generator = torch.Generator().manual_seed(0)
        palette = PALETTE.of(torch.rand(1, 3, *size, generator=generator) * 2 - 1)[0]
        rows = 1 + (palette.diff(dim=1).abs().amax(dim=(0, 2)) > 1e-4).sum()
        columns = 1 + (palette.diff(dim=2).abs().amax(dim=(0, 1)) > 1e-4).sum()
        assert (int(rows), int(columns)) == grid

    def test_a_palette_is_the_mean_of_each_cell(self):
        generator = torch.Generator().manual_seed(0)
        picture = torch.rand(2, 3, 32, 64, generator=generator) * 2 - 1
        cells = torch.nn.functional.avg_pool2d(picture, 4)
        expected = cells.repeat_interleave(4, 2).repeat_interleave(4, 3)
        torch.testing.assert_close(PALETTE.of(picture), expected)


class TestStoredMaps:
    def test_masks_are_filled_where_half_is_covered(self):
        coverage = torch.tensor([0.0, 0.49, 0.5, 1.0]).view(1, 1, 2, 2)
        assert MASK.from_stored(coverage).flatten().tolist() == [0, 0, 1, 1]

    def test_depth_runs_from_near_to_far(self):
        depth = torch.tensor([1.0, 5.5, 10.0]).view(1, 1, 1, 3)
        torch.testing.assert_close(DEPTH.from_stored(depth).flatten(), torch.tensor([-1.0, 0, 1]))

    def test_depth_cannot_be_found_in_pictures(self):
        with pytest.raises(UserError, match="depth cannot be found in pictures"):
            DEPTH.of(torch.zeros(1, 3, 8, 8))

    @pytest.mark.parametrize("condition", CONDITIONS, ids=lambda condition: condition.name)
    def test_what_is_stored_is_among_the_maps_of_shapes(self, condition):
        _, maps = shapes(4, 16, 24)
        if condition.stored is not None:
            found = condition.from_stored(maps[condition.stored])
            assert found.shape == (4, condition.channels, 16, 24)
            assert found.min() >= (0 if condition.binary else -1)
            assert found.max() <= 1


class TestShrinking:
    def test_lines_stay_and_colours_mix(self):
        maps = torch.zeros(1, 1, 16, 16)
        maps[..., 5] = 1
        assert strongest(maps, (4, 4))[0, 0, 0].tolist() == [0, 1, 0, 0]
        assert averaged(maps, (4, 4))[0, 0, 0].tolist() == [0, 0.25, 0, 0]

    def test_at_the_models_own_size_they_are_as_they_are(self):
        maps = torch.rand(1, 3, 8, 12)
        for shrink in (averaged, strongest):
            assert shrink(maps, (8, 12)) is maps


class TestLosses:
    """Sums over places, so that a constraint's gradient does not fade with the size."""

    def test_binary_maps_have_the_cross_entropy_of_logits(self):
        logits, wanted = torch.tensor([[[[2.0, -1.0]]]]), torch.tensor([[[[1.0, 0.0]]]])
        p = logits.sigmoid()
        expected = -(p[..., 0].log() + (1 - p[..., 1]).log())
        torch.testing.assert_close(MASK.loss(logits, wanted), expected.view(1))
        torch.testing.assert_close(MASK.shown(logits), p)

    def test_others_have_half_the_squared_error(self):
        found, wanted = torch.full((2, 3, 1, 2), 0.5), torch.zeros(2, 3, 1, 2)
        assert PALETTE.loss(found, wanted).tolist() == [0.75, 0.75]
        assert PALETTE.shown(found) is found

    def test_weights_say_how_much_a_place_counts(self):
        found, wanted = torch.full((1, 3, 1, 2), 0.5), torch.zeros(1, 3, 1, 2)
        weight = torch.tensor([0.0, 2.0]).view(1, 1, 1, 2)
        assert PALETTE.loss(found, wanted, weight).tolist() == [0.75]


def test_pictures_of_another_range_or_shape_are_refused():
    for wrong in (255 * torch.ones(2, 3, 8, 8), torch.zeros(3, 8, 8), torch.zeros(2, 1, 8, 8)):
        with pytest.raises(ValueError, match=r"pictures are to be \(B, 3, H, W\) in about"):
            EDGE.of(wrong)

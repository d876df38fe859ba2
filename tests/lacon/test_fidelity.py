"""Measures of fidelity against cases counted by hand."""

import pytest
import torch
from torch import Tensor

from diffgen.lacon.conditions import CONDITIONS
from diffgen.lacon.fidelity import colour_error, edge_f1, iou, mean_error


def marked(*places: tuple[int, int], size: tuple[int, int] = (8, 8)) -> Tensor:
    """(1, 1, *size) with 1 at the places."""
    maps = torch.zeros(1, 1, *size)
    for row, column in places:
        maps[0, 0, row, column] = 1
    return maps


def line(column: int, size: int) -> Tensor:
    maps = torch.zeros(1, 1, size, size)
    maps[..., column] = 1
    return maps


class TestEdgeF1:
    def test_counted_by_hand(self):
        """Two of three found are right, of four wanted: 2 (2/3)(1/2) / (2/3 + 1/2) = 4/7."""
        found = marked((0, 0), (1, 1), (2, 2))
        wanted = marked((1, 1), (2, 2), (5, 5), (6, 6))
        assert float(edge_f1(found, wanted)) == pytest.approx(4 / 7)

    def test_of_itself_it_is_1_and_of_its_complement_0(self):
        generator = torch.Generator().manual_seed(0)
        maps = (torch.rand(3, 1, 32, 32, generator=generator) > 0.7).float()
        assert edge_f1(maps, maps).tolist() == [1, 1, 1]
        assert edge_f1(maps, 1 - maps).tolist() == [0, 0, 0]

    def test_without_edges(self):
        nothing, one = marked(), marked((3, 3))
        assert edge_f1(nothing, nothing).tolist() == [1]
        assert edge_f1(nothing, one).tolist() == [0]
        assert edge_f1(one, nothing).tolist() == [0]

    def test_at_32_pixels_an_edge_must_be_where_it_is(self):
        assert edge_f1(line(10, 32), line(11, 32)).tolist() == [0]

    @pytest.mark.parametrize(("size", "reach"), [(128, 1), (256, 3), (512, 5)])
    def test_in_large_pictures_it_may_be_off_by_a_share_of_the_diagonal(self, size, reach):
        assert edge_f1(line(50, size), line(50 + reach, size)).tolist() == [1]
        assert edge_f1(line(50, size), line(50 + reach + 1, size)).tolist() == [0]

    def test_the_tolerance_is_a_disc(self):
        """Of 5 pixels at 512: (3, 4) lies in it, (4, 4) does not."""
        wanted = marked((200, 200), size=(512, 512))
        for offset, expected in (((3, 4), 1), ((5, 0), 1), ((4, 4), 0), ((0, 6), 0)):
            found = marked((200 + offset[0], 200 + offset[1]), size=(512, 512))
            assert edge_f1(found, wanted).tolist() == [expected]

    def test_precision_and_recall_are_each_within_it(self):
        """One of two found lies near; one of three wanted is near: 2 (1/2)(1/3) / (5/6) = 0.4."""
        found = marked((100, 100), (300, 300), size=(512, 512))
        wanted = marked((102, 100), (10, 10), (10, 500), size=(512, 512))
        assert float(edge_f1(found, wanted)) == pytest.approx(0.4)

    def test_soft_maps_count_above_a_half(self):
        assert edge_f1(0.6 * marked((1, 1)), marked((1, 1)) * 0.9).tolist() == [1]
        assert edge_f1(0.4 * marked((1, 1)), marked((1, 1))).tolist() == [0]


class TestIoU:
    def test_counted_by_hand(self):
        found, wanted = torch.zeros(2, 1, 4, 4), torch.zeros(2, 1, 4, 4)
        found[0, :, :2], wanted[0, :, 1:3] = 1, 1  # one row of three
        found[1, :, :, :2], wanted[1, :, :1] = 1, 1  # two pixels of ten
        assert iou(found, wanted).tolist() == pytest.approx([1 / 3, 0.2])

    def test_empty_masks(self):
        nothing, one = marked(), marked((3, 3))
        assert iou(nothing, nothing).tolist() == [1]
        assert iou(nothing, one).tolist() == [0]
        assert iou(one, nothing).tolist() == [0]


class TestErrors:
    def test_black_for_white_is_the_whole_range(self):
        black, white = torch.full((2, 3, 4, 4), -1.0), torch.full((2, 3, 4, 4), 1.0)
        for measure in (colour_error, mean_error):
            assert measure(black, white).tolist() == [1, 1]
            assert measure(black, black).tolist() == [0, 0]

    def test_root_mean_square_and_mean(self):
        """Half of the values off by 1 of a range of 2."""
        found = torch.zeros(1, 3, 2, 2)
        wanted = torch.tensor([0.0, 1.0]).expand(1, 3, 2, 2)
        assert float(colour_error(found, wanted)) == pytest.approx(0.5 * 0.5**0.5)
        assert float(mean_error(found, wanted)) == pytest.approx(0.25)


def test_each_picture_is_measured_by_itself():
    generator = torch.Generator().manual_seed(0)
    for condition in CONDITIONS:
        found, wanted = torch.rand(2, 4, condition.channels, 64, 64, generator=generator)
        measure = condition.fidelity.measure
        together = measure(found, wanted)
        assert together.shape == (4,)
        assert len(together.unique()) == 4
        for k in range(4):
            alone = measure(found[k : k + 1], wanted[k : k + 1])
            torch.testing.assert_close(alone, together[k : k + 1])

"""Nearest neighbours against whole distance matrices, and what copies do to the two shares."""

import math

import pytest
import torch
from torch import Tensor

from diffgen.metrics.nearest import nearest, neighbours


def points(count: int, size: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, size, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("block_size", [1, 7, 64, 1000])
def test_nearest_is_the_top_of_the_distance_matrix(block_size):
    queries, keys = points(40, 5, 0) + 3, points(55, 5, 1) + 3
    whole = (queries[:, None] - keys[None]).norm(dim=2)
    expected = whole.topk(4, largest=False)
    distances, indices = nearest(queries, keys, 4, block_size=block_size)
    torch.testing.assert_close(distances, expected.values, rtol=1e-12, atol=0)
    assert distances.dtype == torch.float64
    assert indices.tolist() == expected.indices.tolist()


@pytest.mark.parametrize("block_size", [1, 7, 64, 1000])
def test_neighbours_are_those_of_the_distance_matrices(block_size):
    real, fake = points(50, 4, 2).float(), points(30, 4, 3).float()
    found = neighbours(real, fake, block_size=block_size)
    across = torch.cdist(fake.double(), real.double()).topk(2, largest=False)
    within = torch.cdist(real.double(), real.double()).fill_diagonal_(torch.inf)
    torch.testing.assert_close(found.distances, across.values, rtol=1e-10, atol=0)
    torch.testing.assert_close(found.spacing, within.amin(1), rtol=1e-10, atol=0)
    assert found.indices.tolist() == across.indices.tolist()
    authentic = across.values[:, 0] > within.amin(1)[across.indices[:, 0]]
    assert 0 < found.authenticity < 1
    assert found.authenticity == pytest.approx(authentic.double().mean().item())


def test_exact_and_near_copies_are_found_and_named():
    real = points(40, 8, 4)
    copies = torch.cat([real[[3, 17]], real[[5]] + 1e-3])
    found = neighbours(real, torch.cat([copies, 5 * points(5, 8, 5)]))
    assert found.indices[:3, 0].tolist() == [3, 17, 5]
    assert found.distances[:2, 0].tolist() == [0, 0]
    assert found.copied() == 3 / 8
    assert neighbours(real, real).authenticity == 0
    assert neighbours(real, real).copied() == 1


def test_the_shares_by_hand():
    """Reals at 0, 5 and 7: the nearest others of 5 and 7 are 2 away, that of 0 is 5 away."""
    real = torch.tensor([[0.0], [5.0], [7.0]])
    found = neighbours(real, torch.tensor([[-1.0], [-5.0], [-6.0], [9.0], [10.0]]))
    assert found.spacing.tolist() == [5, 2, 2]
    assert found.distances.tolist() == [[1, 6], [5, 10], [6, 11], [2, 4], [3, 5]]
    assert found.authenticity == 2 / 5  # -6 and 10; -5 and 9 are as far as their reals' neighbours
    assert found.copied() == 1 / 5  # 1 / 6 < 1 / 3
    assert found.copied(0.5) == 1 / 5  # 5 / 10 and 2 / 4 are on the bound
    assert found.copied(0.51) == 3 / 5


def test_a_real_that_is_there_twice_hides_its_copies():
    real = points(20, 6, 6)
    found = neighbours(torch.cat([real, real[:5]]), real)
    assert found.spacing[:5].tolist() == [0] * 5
    assert found.spacing[5:20].gt(0).all()
    assert found.copied() == 15 / 20
    assert found.authenticity == 0


def test_fresh_draws_are_authentic_as_often_as_points_have_no_mutual_neighbour():
    """2/3 of the points of a line are their nearest neighbour's nearest, 0.6215 of a plane's:
    a ball over the union of two such balls through each other's centre."""
    generator = torch.Generator().manual_seed(7)
    line, plane = 2 / 3, math.pi / (4 * math.pi / 3 + math.sqrt(3) / 2)
    for size, mutual in ((1, line), (2, plane)):
        real = torch.rand(4000, size, generator=generator)
        found = neighbours(real, torch.rand(4000, size, generator=generator))
        assert found.authenticity == pytest.approx(1 - mutual, abs=0.04)


def test_unusable_arguments_are_refused():
    rows = torch.zeros(4, 2)
    with pytest.raises(ValueError, match="count must be at least 1, got 0"):
        nearest(rows, rows, 0)
    with pytest.raises(ValueError, match="keys needs at least 5 rows, got 4"):
        nearest(rows, rows, 5)
    with pytest.raises(ValueError, match="keys must have 2 columns, got 3"):
        nearest(rows, torch.zeros(4, 3), 1)
    with pytest.raises(ValueError, match="queries holds NaN"):
        nearest(torch.full((1, 2), torch.nan), rows, 1)
    with pytest.raises(ValueError, match="block_size must be at least 1, got 0"):
        nearest(rows, rows, 1, block_size=0)
    with pytest.raises(ValueError, match="real needs at least 2 rows, got 1"):
        neighbours(rows[:1], rows)
    with pytest.raises(ValueError, match="fake must have 2 columns, got 3"):
        neighbours(rows, torch.zeros(4, 3))
    for ratio in (0, 1.5):
        with pytest.raises(ValueError, match=f"ratio must be above 0 and at most 1, got {ratio}"):
            neighbours(rows, rows).copied(ratio)

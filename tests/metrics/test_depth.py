"""AbsRel, delta1, the best constant and the best fixed map, by hand."""

import pytest
import torch

from diffgen.lacon.conditions import DEPTH
from diffgen.metrics.depth import abs_rel, best_constant, best_fixed, delta1, depth_of


def depth(*rows: list[float]) -> torch.Tensor:
    """A picture of one line for each row."""
    return torch.tensor(rows)[:, None, None]


def test_abs_rel_is_relative_to_the_exact_depth_and_of_each_picture():
    wanted = depth([2.0, 4.0], [1.0, 10.0])
    found = depth([3.0, 3.0], [1.0, 5.0])  # 1/2 and 1/4; 0 and 1/2
    assert abs_rel(found, wanted).tolist() == pytest.approx([0.375, 0.25])


def test_delta1_counts_ratios_below_a_quarter_more_in_both_directions():
    wanted = depth([4.0, 4.0, 4.0, 4.0, 4.0])
    found = depth([4.99, 5.0, 3.21, 3.2, 4.0])  # 5 and 3.2 are 1.25 times off: not below
    assert delta1(found, wanted).tolist() == pytest.approx([0.6])


def test_maps_become_the_depth_they_were_made_of_and_no_other():
    wanted = torch.linspace(1, 10, 7).reshape(1, 1, 1, 7)
    assert torch.allclose(depth_of(DEPTH.from_stored(wanted)), wanted)
    assert depth_of(torch.tensor([-1.5, 1.5])).tolist() == [1, 10]


def test_the_best_constant_is_a_median_in_which_near_counts_more():
    # Weights 1/1, 1/2, 1/8, 1/8, 1/8: half of 1.875 is reached at 1; the plain median is 8.
    assert best_constant(depth([8.0, 1.0, 8.0, 2.0, 8.0])) == 1


def test_no_constant_has_a_smaller_abs_rel():
    wanted = 1 + 9 * torch.rand(6, 1, 5, 7, generator=torch.Generator().manual_seed(0)).square()
    least = abs_rel(torch.full_like(wanted, best_constant(wanted)), wanted).mean()
    for constant in torch.linspace(1, 10, 181).tolist():
        assert least <= abs_rel(torch.full_like(wanted, constant), wanted).mean() + 1e-6


def test_the_best_fixed_map_is_the_best_constant_of_each_pixel():
    wanted = 1 + 9 * torch.rand(7, 1, 2, 3, generator=torch.Generator().manual_seed(1))
    fixed = best_fixed(wanted)
    assert fixed.shape == (1, 1, 2, 3)
    for y in range(2):
        for x in range(3):
            assert float(fixed[0, 0, y, x]) == best_constant(wanted[..., y : y + 1, x : x + 1])
    assert (
        abs_rel(fixed, wanted).mean()
        < abs_rel(torch.full_like(wanted, best_constant(wanted)), wanted).mean()
    )


def test_the_best_fixed_map_of_one_picture_is_the_picture():
    wanted = depth([8.0, 1.0, 3.0])
    assert torch.equal(best_fixed(wanted), wanted)

"""Frequencies on larger grids and logit temperatures: published values, identities, limits."""

import math
from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diffgen.config.positions import (
    PositionOverrides,
    RopeConfig,
    Scaling,
    Temperature,
    position_changes,
    read_position,
)
from diffgen.positions import build_position, scaling
from diffgen.positions.rope import rotate
from diffgen.positions.temperature import logit_temperature

SCALINGS = [name for name in get_args(Scaling) if name != "none"]
GRID = (8, 6)
TIME = torch.tensor(0.5)
sides = st.integers(1, 40)


def rope(name, decoupled=True, head=16, grid=GRID, **options):
    config = RopeConfig(additive=False, scaling=name, decoupled=decoupled, **options)
    return build_position(config, 2 * head, 2, grid)


def grid_of(rows, columns):
    return torch.tensor([float(rows), float(columns)])


@pytest.mark.parametrize(
    ("scale", "channels", "base"),
    [
        (1.25, 32, 12687.343), (1.25, 36, 12665.158), (1.25, 48, 12621.864),
        (2.0, 32, 20945.88), (2.0, 36, 20832.32), (2.0, 48, 20611.91),
    ],
)  # fmt: skip
def test_the_ntk_base_of_fitv2_sizes(scale, channels, base):
    """The last frequency is base^(-(D - 2) / D), and just f / s."""
    found = scaling.ntk(torch.tensor(scale, dtype=torch.float64), 10_000.0, channels)
    assert float(found[-1]) == pytest.approx(base ** (-(channels - 2) / channels), rel=1e-6)
    last = scaling.plain(10_000.0, channels)[-1]
    assert float(found[-1]) == pytest.approx(float(last) / scale, rel=1e-12)
    assert found[0] == 1


def test_yarn_factors_worked_out():
    for scale, root in ((1.25, 1.022314), (2.0, 1.069315), (1.0, 1.0)):
        found = scaling.yarn_temperature(torch.tensor(scale, dtype=torch.float64))
        assert float(found) == pytest.approx(root**2, rel=1e-5)


@pytest.mark.parametrize(("channels", "slow"), [(32, (1, 3)), (36, (1, 3)), (48, (1, 4))])
def test_the_ramps_of_ntk_by_parts(channels, slow):
    """Bounds (1.25, 0.75) on 16 tokens end at these indices, (16, 2) at 0 and 1."""
    like = torch.ones(())
    keep = scaling.kept_share(1.25, 0.75, 10_000.0, channels, 16, like)
    index = torch.arange(channels // 2)
    expected = 1 - ((index - slow[0]) / (slow[1] - slow[0])).clamp(0, 1)
    torch.testing.assert_close(keep, expected.double())
    fast = scaling.kept_share(16, 2, 10_000.0, channels, 16, like)
    assert fast.tolist() == [1, *[0] * (channels // 2 - 1)]


def test_riflex_moves_one_frequency_and_never_up():
    side = torch.tensor([8.0, 16.0, 64.0])
    plain = scaling.plain(10_000.0, 32)
    found = scaling.riflex(side, 8, 8, 10_000.0, 32)
    assert torch.equal(found[0], plain)
    for row, length in zip(found[1:], (16, 64), strict=True):
        (moved,) = torch.nonzero(row != plain, as_tuple=True)
        assert len(moved) == 1
        assert 2 * math.pi / float(plain[moved]) == pytest.approx(8, abs=3)
        assert float(row[moved]) == pytest.approx(0.9 * 2 * math.pi / length)


def test_time_aware_switches_at_0_3_from_noise():
    scale = torch.full((2,), 2.0, dtype=torch.float64)
    found = scaling.time_aware(scale, torch.tensor([0.71, 0.69]), 100.0, 8)
    torch.testing.assert_close(found[0], scaling.plain(100.0, 8) / 2)
    torch.testing.assert_close(found[1], scaling.plain(200.0, 8))


def test_coupled_axes_share_the_longer_and_time_aware_the_area():
    sizes = torch.tensor([[16.0, 6.0], [8.0, 6.0], [4.0, 12.0]])
    both = scaling.axis_scales("ntk", sizes, GRID, decoupled=False)
    assert both.tolist() == [[2, 2], [1, 1], [2, 2]]
    each = scaling.axis_scales("ntk", sizes, GRID, decoupled=True)
    assert each.tolist() == [[2, 1], [1, 1], [1, 2]]
    area = scaling.axis_scales("time_aware", sizes, GRID, decoupled=False)
    torch.testing.assert_close(area[0], torch.full((2,), math.sqrt(2.0), dtype=torch.float64))


@pytest.mark.parametrize("decoupled", [True, False])
@pytest.mark.parametrize("name", SCALINGS)
@settings(deadline=None, max_examples=25)
@given(rows=st.integers(1, GRID[0]), columns=st.integers(1, GRID[1]), t=st.floats(0, 1))
def test_scale_1_is_none(name, decoupled, rows, columns, t):
    """At the trained size and below nothing changes, whatever the time."""
    size, time = grid_of(rows, columns), torch.tensor(t)
    found = rope(name, decoupled).frequencies(size, time)
    plain = rope("none").frequencies(size, time).expand_as(found)
    torch.testing.assert_close(found, plain, rtol=1e-12, atol=0)
    assert name != "yarn" or float(rope(name, decoupled).logit_scale(size)) == 1


@pytest.mark.parametrize("name", SCALINGS)
def test_a_larger_grid_changes_something_and_a_decoupled_axis_only_itself(name):
    plain = rope("none").frequencies(grid_of(8, 6), TIME)
    found = rope(name).frequencies(grid_of(32, 6), TIME)
    assert not torch.equal(found[0], plain)
    torch.testing.assert_close(found[1], plain, rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", ["none", *SCALINGS])
@settings(deadline=None, max_examples=20)
@given(rows=sides, columns=sides, down=st.floats(-50, 50), across=st.floats(-50, 50))
def test_logits_depend_on_coordinate_differences_alone(name, rows, columns, down, across):
    encoding, size = rope(name), grid_of(rows, columns)
    coords = torch.tensor([[0.0, 0.0], [1.0, 4.0], [7.25, 2.0], [2.5, 0.25]])
    generator = torch.Generator().manual_seed(0)
    q, k = (torch.randn(4, 16, generator=generator) for _ in range(2))

    def logits(at):
        angles = encoding.rotation(at, size, TIME)
        return rotate(q, angles.cos(), angles.sin()) @ rotate(k, angles.cos(), angles.sin()).T

    moved = logits(coords + torch.tensor([down, across]))
    torch.testing.assert_close(moved, logits(coords), rtol=0, atol=2e-4)


@pytest.mark.parametrize("name", SCALINGS)
def test_each_image_is_scaled_by_its_own_size(name):
    sizes = torch.tensor([[[8.0, 6.0]], [[16.0, 24.0]], [[32.0, 3.0]]])  # (B, 1, 2)
    together = rope(name).frequencies(sizes, torch.full((3, 1), 0.5))
    for one, size in zip(together, sizes, strict=True):
        torch.testing.assert_close(one[0], rope(name).frequencies(size[0], TIME))


@pytest.mark.parametrize(
    ("side", "with_two", "without"), [(20, 1.2055, 1.0805), (24, 1.2712, None), (32, 1.375, 1.25)]
)
def test_temperatures_worked_out(side, with_two, without):
    """Of a model trained on 16 x 16 tokens."""
    size, trained = grid_of(side, side), (16, 16)
    assert float(logit_temperature("log_ratio_2x", size, trained)) == pytest.approx(
        with_two, abs=1e-4
    )
    if without:
        found = float(logit_temperature("log_ratio", size, trained))
        assert found == pytest.approx(without, abs=1e-4)
        root = float(logit_temperature("sqrt_log", size, trained))
        assert root == pytest.approx(math.sqrt(found), rel=1e-6)


def test_temperatures_at_and_below_the_trained_size():
    trained = (16, 16)
    assert float(logit_temperature("log_ratio_2x", grid_of(16, 16), trained)) == 1.125
    assert float(logit_temperature("log_side_2x", grid_of(16, 16), trained)) == 1.25
    for name in ("log_ratio", "sqrt_log"):
        assert float(logit_temperature(name, grid_of(16, 16), trained)) == 1
    assert float(logit_temperature("log_ratio", grid_of(8, 8), trained)) == 1
    assert float(logit_temperature("sqrt_log", grid_of(8, 8), trained)) < 1
    assert float(logit_temperature("log_side_2x", grid_of(4, 4), trained)) == 1
    assert logit_temperature("none", grid_of(64, 64), trained) is None


@pytest.mark.parametrize("kind", ["none", "sincos", "rope"])
@pytest.mark.parametrize("name", [n for n in get_args(Temperature) if n != "none"])
def test_every_encoding_takes_a_temperature(kind, name):
    encoding = build_position(read_position({"kind": kind, "temperature": name}), 32, 2, GRID)
    expected = logit_temperature(name, grid_of(20, 9), GRID)
    assert torch.equal(encoding.logit_scale(grid_of(20, 9)), expected)


def test_yarn_and_a_temperature_multiply():
    size = grid_of(20, 9)
    alone = rope("yarn").logit_scale(size)
    both = rope("yarn", temperature="log_ratio").logit_scale(size)
    torch.testing.assert_close(both, alone * logit_temperature("log_ratio", size, GRID))


def test_one_token_has_no_temperature():
    with pytest.raises(ValueError, match="more than one trained token"):
        logit_temperature("log_ratio", grid_of(4, 4), (1, 1))


def test_a_period_is_riflexs_alone():
    (complaint,) = RopeConfig(period=5, scaling="pi").misfits(32, 2)
    assert complaint.startswith("position.period")
    stated = RopeConfig(period=5, scaling="riflex")
    assert position_changes(stated, PositionOverrides(scaling="ntk")) == {
        "scaling": "ntk",
        "period": None,
    }
    assert position_changes(stated, PositionOverrides(temperature="sqrt_log")) == {
        "temperature": "sqrt_log"
    }

"""RPE-2D: what is drawn, where it is fixed, and that the backbone draws once."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from diffgen import DiT
from diffgen.config.positions import (
    PositionOverrides,
    RopeConfig,
    RPE2DConfig,
    SinCosConfig,
    position_changes,
)
from diffgen.models.tokens import grid_coords
from diffgen.positions import RPE2D, Rope, SinCos, build_position
from diffgen.positions.rpe2d import drawn_positions, fixed_positions, look_up
from diffgen.seeding import stream_generator

GRID = (4, 6)
KINDS = ["linspace", "arange", "order_stat"]


def seeded(*numbers: int) -> list[torch.Generator]:
    return [stream_generator(5, "positions", number) for number in numbers]


def encoding(**options) -> RPE2D:
    """Trained on 4 x 6 tokens, positions from 0 ... 9 and 0 ... 14."""
    config = RPE2DConfig(**{"range_rows": 10, "range_columns": 15, **options})
    found = build_position(config, 32, 2, GRID)
    assert isinstance(found, RPE2D)
    return found


def placed(found: RPE2D, shapes: list[tuple[int, int]], draws) -> list[Tensor]:
    """Positions of the whole grids of ``shapes``, padded to one batch: (N, 2) each."""
    longest = max(rows * columns for rows, columns in shapes)
    coords = torch.zeros(len(shapes), longest, 2)
    for i, shape in enumerate(shapes):
        coords[i, : math.prod(shape)] = grid_coords(*shape)
    out = found.place(coords, torch.tensor(shapes)[:, None], draws)
    return [places[: math.prod(shape)] for places, shape in zip(out, shapes, strict=True)]


def axes(places: Tensor, shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The positions of rows and of columns, checked to be the same all over the grid."""
    whole = places.reshape(*shape, 2)
    rows, columns = whole[:, 0, 0], whole[0, :, 1]
    assert torch.equal(whole[..., 0], rows[:, None].expand(shape))
    assert torch.equal(whole[..., 1], columns.expand(shape))
    return rows, columns


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 40), st.integers(0, 30), st.integers(0, 2**31))
def test_draws_are_sorted_unique_and_in_range(count, more, seed):
    length = count + more
    drawn = drawn_positions(count, length, torch.Generator().manual_seed(seed))
    assert len(drawn) == count
    assert (drawn.diff() >= 1).all()
    assert drawn[0] >= 0
    assert drawn[-1] <= length - 1
    assert torch.equal(drawn, drawn.round())


def test_the_ith_draw_has_the_law_of_the_order_statistic():
    """P(x_i = v) = C(v, i) C(L - 1 - v, N - 1 - i) / C(L, N); chi-square at about 1e-4."""
    count, length, trials = 4, 10, 6000
    generator = torch.Generator().manual_seed(0)
    drawn = torch.stack([drawn_positions(count, length, generator) for _ in range(trials)])
    limits = {7: 29.9}  # 7 values each: 6 degrees of freedom would be 27.9
    for i in range(count):
        chi, cells = 0.0, 0
        for v in range(length):
            ways = math.comb(v, i) * math.comb(length - 1 - v, count - 1 - i)
            expected = trials * ways / math.comb(length, count)
            seen = int((drawn[:, i] == v).sum())
            if expected == 0:
                assert seen == 0
                continue
            chi, cells = chi + (seen - expected) ** 2 / expected, cells + 1
        assert chi < limits[cells]
        mean = (i + 1) * (length + 1) / (count + 1) - 1
        assert drawn[:, i].mean().item() == pytest.approx(mean, abs=0.1)
        assert fixed_positions("order_stat", count, length)[i].item() == pytest.approx(mean)


def test_rows_and_columns_are_drawn_independently_and_each_from_its_range():
    shape, pairs = (4, 4), []
    found = encoding(range_rows=6, range_columns=9)
    for n in range(3000):
        rows, columns = axes(placed(found, [shape], seeded(n))[0], shape)
        pairs.append((rows, columns))
    rows, columns = (torch.stack(part) for part in zip(*pairs, strict=True))
    assert (rows.min().item(), rows.max().item()) == (0, 5)
    assert (columns.min().item(), columns.max().item()) == (0, 8)
    for i in range(4):
        for j in range(4):
            correlation = torch.corrcoef(torch.stack([rows[:, i], columns[:, j]]))[0, 1]
            assert abs(correlation) < 4.5 / math.sqrt(3000)


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=30)
@given(st.integers(1, 20), st.integers(0, 20))
def test_fixed_positions_rise_within_the_range(kind, count, more):
    length = count + more
    positions = fixed_positions(kind, count, length)
    assert (positions.diff() > 0.999).all()
    assert positions[0] >= 0
    assert positions[-1] <= length - 1 + 1e-4


@pytest.mark.parametrize("kind", [*KINDS, "random"])
@pytest.mark.parametrize("draws", [None, [3]])
def test_a_range_as_long_as_the_grid_gives_the_plain_grid(kind, draws):
    found = encoding(range_rows=4, range_columns=6, inference=kind)
    if kind == "random" and draws is None:
        draws = [4]
    places = placed(found, [GRID], draws and seeded(*draws))[0]
    torch.testing.assert_close(places, grid_coords(*GRID), rtol=0, atol=1e-5)


def test_positions_when_drawing():
    expected = {
        "linspace": ([0, 3, 6, 9], [0, 2.8, 5.6, 8.4, 11.2, 14]),
        "arange": ([0, 1, 2, 3], [0, 1, 2, 3, 4, 5]),
        "order_stat": ([1.2, 3.4, 5.6, 7.8], [16 * k / 7 - 1 for k in range(1, 7)]),
    }
    for kind, (rows, columns) in expected.items():
        found = axes(placed(encoding(inference=kind), [GRID], None)[0], GRID)
        torch.testing.assert_close(found[0], torch.tensor(rows, dtype=torch.float32))
        torch.testing.assert_close(found[1], torch.tensor(columns, dtype=torch.float32))


def test_a_draw_is_a_function_of_the_sample_whatever_the_batch():
    """Mixed sizes, other neighbours, another order: sample 7 stays where it was."""
    found = encoding()
    shapes = {3: (4, 6), 7: (5, 2), 9: (1, 15)}
    alone = {n: placed(found, [shape], seeded(n))[0] for n, shape in shapes.items()}
    together = placed(found, list(shapes.values()), seeded(*shapes))
    for n, places in zip(shapes, together, strict=True):
        assert torch.equal(places, alone[n])
    assert not torch.equal(alone[3], placed(found, [(4, 6)], seeded(4))[0])


def test_one_generator_serves_the_images_in_turn():
    found, shapes = encoding(), [(4, 6), (4, 6)]
    first, second = placed(found, shapes, torch.Generator().manual_seed(1))
    assert not torch.equal(first, second)
    again = placed(found, shapes, torch.Generator().manual_seed(1))
    assert torch.equal(first, again[0])
    assert torch.equal(second, again[1])


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_a_share_of_the_images_is_placed_as_for_drawing(share):
    found = encoding(plain_share=share)
    plain = placed(found, [GRID], None)[0]
    same = sum(torch.equal(placed(found, [GRID], seeded(n))[0], plain) for n in range(400))
    assert same / 400 == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / 400))


def test_between_two_tokens_a_position_is_between_theirs():
    table = torch.tensor([[0.0, 2, 6], [1, 2, 3]])
    coords = torch.tensor([[0.5, 0], [1.25, 2], [2, 1.5], [9, -1]])
    expected = torch.tensor([[1.0, 1], [3, 3], [6, 2.5], [6, 1]])
    torch.testing.assert_close(look_up(table, coords), expected)


def test_the_base_encodes_the_placed_coordinates():
    coords, sizes, t = grid_coords(4, 6)[None], torch.tensor([[[4, 6]]]), torch.tensor(0.5)
    rope = encoding(base="rope", theta=50.0)
    places = rope.place(coords, sizes, seeded(1))
    plain = Rope(RopeConfig(theta=50.0, additive=False), 16, GRID)
    assert torch.equal(rope.rotation(places, sizes, t), plain.rotation(places, sizes, t))
    assert rope.embed(places, sizes) is None
    counted = SinCos(SinCosConfig(interpolate=False), 32, GRID)
    for options in ({"base": "sincos"}, {"base": "rope", "additive": True}):
        added = encoding(**options).embed(places, sizes)
        assert torch.equal(added, counted.embed(places, sizes))
    assert encoding(base="sincos").rotation(places, sizes, t) is None


def test_a_picture_around_a_crop_is_kept_to_the_range():
    """RANGE is 9 x 16 here; the crop lies in what is left as it did in the whole."""
    encoding = build_position(RPE2DConfig(range_rows=9, range_columns=16), 32, 2, GRID)
    crop = torch.tensor([[20.0, 12.0, 8.0, 3.0], [9.0, 40.0, 5.0, 36.0], [4.0, 4.0, 0.0, 0.0]])
    sizes = torch.tensor([[4.0, 4.0]] * 3)
    expected = [[9, 12, 2.5, 3], [9, 16, 5, 12], [4, 4, 0, 0]]
    torch.testing.assert_close(encoding.picture(crop, sizes), torch.tensor(expected).float())
    encoding.place(torch.rand(3, 5, 2), encoding.picture(crop, sizes)[:, None, :2], None)


def test_the_default_range_is_twice_the_trained_grid():
    found = build_position(RPE2DConfig(), 32, 2, GRID)
    assert found.ranges == (8, 12)
    assert RPE2DConfig(range_columns=7).ranges(GRID) == (8, 7)


def test_a_grid_over_the_range_is_refused():
    with pytest.raises(ValueError, match="11x6 tokens exceeds the 10x15 positions"):
        placed(encoding(), [(4, 6), (11, 6)], seeded(0, 1))
    model = tiny()
    with pytest.raises(ValueError, match="4x9 tokens exceeds the 8x8"):
        model(torch.zeros(1, 3, 8, 18), torch.zeros(1), torch.zeros(1, dtype=torch.long))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"base": "sincos", "additive": True}, "position.additive"),
        ({"base": "rope"}, "num_heads 4 gives heads of 6"),
        ({"base": "sincos"}, None),
        ({"base": "sincos", "theta": 50}, "position.theta: 50 has no effect"),
        (
            {"base": "sincos", "plain_share": 0.5, "inference": "random"},
            "position.plain_share: 0.5 has no effect",
        ),
    ],
)
def test_settings_its_base_cannot_work_with_are_told(options, named):
    complaints = list(RPE2DConfig(**options).misfits(24, 4))
    assert bool(complaints) == (named is not None)
    assert named is None or complaints[0].startswith(named)


def test_only_rpe2d_has_positions_to_choose_when_drawing():
    chosen = PositionOverrides(inference="arange")
    assert position_changes(RPE2DConfig(), chosen) == {"inference": "arange"}
    with pytest.raises(ValueError, match="inference: arange needs an rpe2d encoding"):
        position_changes(RopeConfig(), chosen)
    with pytest.raises(ValueError, match="the model's is rpe2d"):
        position_changes(RPE2DConfig(), PositionOverrides(scaling="ntk"))


def tiny(**position) -> DiT:
    """Drawn weights; trained on 4 x 4 tokens of side 2, the range 8 x 8."""
    model = DiT(
        sample_size=(8, 8),
        patch_size=2,
        hidden_size=32,
        depth=3,
        num_heads=2,
        num_classes=4,
        position={"kind": "rpe2d", **position},
    )
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * 0.2)
    return model


def noisy(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def test_positions_are_drawn_once_a_forward_and_shared_by_all_layers(monkeypatch):
    model, turned = tiny(additive=True), []
    x, t, y = noisy(2, 3, 8, 12), torch.tensor([100.0, 900.0]), torch.tensor([0, 3])
    for block in model.blocks:
        block.register_forward_pre_hook(lambda _, args: turned.append(args[3][0]))
    places = []
    drawing = RPE2D.place
    monkeypatch.setattr(RPE2D, "place", lambda *args: places.append(drawing(*args)) or places[-1])
    model(x, t, y, generator=seeded(4, 8))
    assert len(places) == 1
    assert len(turned) == 3
    assert all(one is turned[0] for one in turned)
    angles = model.encoding.rotation(places[0], torch.tensor([4, 6]), t[:, None])
    torch.testing.assert_close(turned[0], angles.cos())


@torch.no_grad()
def test_the_draw_matters_and_is_the_same_padded_packed_and_alone():
    model = tiny(additive=True)
    t, y = torch.tensor([100.0, 900.0]), torch.tensor([0, 3])
    images = [noisy(3, 8, 12), noisy(3, 4, 6)]
    alone = [
        model(z[None], t[i : i + 1], y[i : i + 1], generator=seeded(i))[0]
        for i, z in enumerate(images)
    ]
    from diffgen.models.tokens import pack, unpack

    packed = pack(images, 2)
    out = model(
        packed.tokens,
        t,
        y,
        packed.coords,
        sizes=packed.sizes,
        lengths=packed.lengths,
        generator=seeded(0, 1),
    )
    for one, other in zip(unpack(out, packed.sizes, 2), alone, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)
    plain = model(images[0][None], t[:1], y[:1])[0]
    assert (plain - alone[0]).abs().max() > 1e-3

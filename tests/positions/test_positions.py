"""The hooks of a positional encoding, alone and inside the backbone."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from diffgen.config.positions import (
    NoPosition,
    RopeConfig,
    RPE2DConfig,
    SinCosConfig,
    read_position,
)
from diffgen.models.dit import DiT
from diffgen.models.tokens import grid_coords
from diffgen.positions import Position, Rope, SinCos, build_position
from diffgen.positions.rope import axial_angles, rotate
from diffgen.positions.scaling import plain
from diffgen.positions.sincos import onto_trained_grid, sincos_2d

HEAD = 16
COORDS = torch.tensor([[0.0, 0.0], [1.0, 4.0], [7.0, 2.0], [2.5, 0.25]])
SIZES = torch.tensor([8.0, 8.0])
TIMES = torch.tensor(0.5)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def turned(x: Tensor, coords: Tensor, theta: float = 10_000.0) -> Tensor:
    angles = axial_angles(coords, plain(theta, x.shape[-1] // 2))
    return rotate(x, angles.cos(), angles.sin())


def logits(coords: Tensor) -> Tensor:
    """(N, N) attention logits of fixed queries and keys placed at ``coords``."""
    q, k = turned(draw(len(coords), HEAD), coords), turned(draw(len(coords), HEAD, seed=1), coords)
    return q @ k.T


def random_dit(position: Position | dict, sample_size=(8, 8)) -> DiT:
    """A model with drawn weights, so that every path from input to output is open."""
    kind = position if isinstance(position, dict) else {"kind": "none"}
    model = DiT(
        sample_size=sample_size,
        patch_size=2,
        hidden_size=32,
        depth=2,
        num_heads=2,
        num_classes=4,
        position=kind,
    )
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * 0.2)
    if isinstance(position, Position):
        model.encoding = position
    return model


def test_each_kind_builds_its_class():
    assert type(build_position(NoPosition(), 32, 2, (8, 8))) is Position
    assert type(build_position(SinCosConfig(), 32, 2, (8, 8))) is SinCos
    rope = build_position(RopeConfig(theta=50.0), 32, 2, (8, 8))
    assert isinstance(rope, Rope)
    assert (rope.head_size, rope.config.theta) == (16, 50.0)
    assert isinstance(rope.additive, SinCos)


@pytest.mark.parametrize(
    ("config", "embeds", "rotates"),
    [
        (NoPosition(), False, False),
        (SinCosConfig(), True, False),
        (RopeConfig(additive=False), False, True),
        (RopeConfig(additive=True), True, True),
    ],
)
def test_the_hooks_keep_their_shapes(config, embeds, rotates):
    """Padded (B, N, 2) and packed (N, 2) coordinates alike; absent hooks give None."""
    encoding = build_position(config, 32, 2, (8, 8))
    for coords in (COORDS, COORDS.expand(3, -1, -1)):
        lead = coords.shape[:-1]
        assert torch.equal(encoding.place(coords, SIZES, None), coords)
        added, angles = encoding.embed(coords, SIZES), encoding.rotation(coords, SIZES, TIMES)
        assert (added is not None) == embeds
        assert (angles is not None) == rotates
        assert added is None or added.shape == (*lead, 32)
        assert angles is None or angles.shape == (*lead, HEAD // 2)
        assert encoding.logit_scale(SIZES) is None


def test_sincos_at_values_worked_out_by_hand():
    """8 channels: two frequencies an axis, 1 and 10000^(-1/2) = 0.01; the column comes first."""
    row, column = 2.0, 3.0
    expected = [
        *(math.sin(column), math.sin(0.01 * column), math.cos(column), math.cos(0.01 * column)),
        *(math.sin(row), math.sin(0.01 * row), math.cos(row), math.cos(0.01 * row)),
    ]
    found = sincos_2d(torch.tensor([row, column]), 8)
    torch.testing.assert_close(found, torch.tensor(expected), rtol=0, atol=1e-7)
    assert SinCos(SinCosConfig(), 8, (8, 8)).embed(torch.tensor([[0.0, 0.0]]), SIZES).tolist() == [
        [0, 0, 1, 1, 0, 0, 1, 1]
    ]


def test_sincos_on_another_grid_stays_within_the_trained_range():
    """The centres of an (8, 16) grid lie between those of the trained (4, 4) one."""
    coords = grid_coords(8, 16)
    moved = onto_trained_grid(coords, torch.tensor([8.0, 16.0]), (4, 4))
    assert moved.min() > -0.5
    assert moved.max() < 3.5
    torch.testing.assert_close(moved[0], torch.tensor([-0.25, -0.375]))
    same = onto_trained_grid(grid_coords(4, 4), torch.tensor([4.0, 4.0]), (4, 4))
    assert torch.equal(same, grid_coords(4, 4))


def test_sincos_may_count_on_from_the_trained_grid():
    coords, size = grid_coords(2, 12), torch.tensor([2.0, 12.0])
    found = SinCos(SinCosConfig(interpolate=False), 8, (4, 4)).embed(coords, size)
    assert torch.equal(found, sincos_2d(coords, 8))


def test_rope_angles_at_values_worked_out_by_hand():
    """Head of 8: the row's pairs turn by row * theta^(0, -1/2), then the column's likewise."""
    angles = axial_angles(torch.tensor([2.0, 3.0]), plain(100.0, 4))
    torch.testing.assert_close(angles, torch.tensor([2.0, 0.2, 3.0, 0.3]))


def test_rotation_is_a_plane_rotation_of_neighbouring_channels():
    x = torch.tensor([1.0, 0.0, 0.0, 2.0])
    quarter = torch.tensor([math.pi / 2, math.pi])
    out = rotate(x, quarter.cos(), quarter.sin())
    torch.testing.assert_close(out, torch.tensor([0.0, 1.0, 0.0, -2.0]), rtol=0, atol=1e-6)


@pytest.mark.parametrize("shift", [(3.0, 0.0), (0.0, -2.0), (11.5, 40.0)])
def test_rope_logits_depend_on_differences_only(shift):
    moved = logits(COORDS + torch.tensor(shift))
    torch.testing.assert_close(moved, logits(COORDS), rtol=0, atol=2e-5)
    assert (logits(COORDS * torch.tensor([1.0, 2.0])) - moved).abs().max() > 0.1


def test_the_row_turns_the_first_half_of_a_head_and_the_column_the_second():
    x = draw(HEAD)
    down = turned(x, torch.tensor([5.0, 0.0]))
    across = turned(x, torch.tensor([0.0, 5.0]))
    half = HEAD // 2
    assert torch.equal(down[half:], x[half:])
    assert torch.equal(across[:half], x[:half])
    assert (down[:half] - x[:half]).abs().max() > 0.1
    assert (across[half:] - x[half:]).abs().max() > 0.1


def test_rotation_preserves_the_norm():
    x = draw(len(COORDS), HEAD)
    torch.testing.assert_close(turned(x, 100 * COORDS).norm(dim=-1), x.norm(dim=-1))


@torch.no_grad()
@pytest.mark.parametrize(
    "kind",
    [
        {"kind": "none"},
        {"kind": "sincos", "interpolate": False},
        {"kind": "rope"},
        {"kind": "rope", "additive": False, "scaling": "yarn", "temperature": "log_ratio_2x"},
        {"kind": "rope", "additive": False, "scaling": "time_aware", "decoupled": False},
    ],
)
@settings(deadline=None, max_examples=10)
@given(order=st.permutations(range(12)).filter(lambda order: order != sorted(order)))
def test_tokens_may_come_in_any_order(kind, order):
    """Permuted tokens with their coordinates give permuted outputs; without, only for none."""
    model = random_dit(kind, sample_size=(4, 4))
    tokens, coords = draw(1, 12, 12), grid_coords(3, 4)[None]
    t, y = torch.tensor([400.0]), torch.tensor([1])
    out = model.forward_tokens(tokens, coords, t, y)[:, order]
    together = model.forward_tokens(tokens[:, order], coords[:, order], t, y)
    torch.testing.assert_close(together, out, rtol=0, atol=1e-5)
    tokens_only = model.forward_tokens(tokens[:, order], coords, t, y)
    assert torch.allclose(tokens_only, out, atol=1e-5) == (kind["kind"] == "none")


@torch.no_grad()
@pytest.mark.parametrize(
    ("position", "blind"),
    [({"kind": "rope", "additive": False}, True), ({"kind": "rope"}, False)],
)
def test_inside_the_backbone_rope_sees_differences_and_sincos_places(position, blind):
    model = random_dit(position)
    tokens, coords = draw(1, 12, 12), grid_coords(3, 4)[None]
    t, y = torch.tensor([400.0]), torch.tensor([1])
    here = model.forward_tokens(tokens, coords, t, y)
    there = model.forward_tokens(tokens, coords + torch.tensor([9.0, 4.0]), t, y)
    assert torch.allclose(there, here, atol=1e-5) == blind


class Everything(Position):
    """A custom encoding that uses every hook, each switched on by name."""

    def __init__(self, *hooks: str) -> None:
        super().__init__()
        self.hooks = hooks
        self.seen: dict[str, list[Tensor]] = {}

    def place(self, coords, sizes, generator):
        self.seen["place"] = [coords, sizes]
        if "place" not in self.hooks:
            return coords
        return coords + torch.rand(coords.shape, generator=generator)

    def embed(self, coords, sizes):
        self.seen["embed"] = [coords, sizes]
        if "embed" not in self.hooks:
            return None
        return (coords / sizes).repeat_interleave(16, dim=-1)

    def rotation(self, coords, sizes, t):
        self.seen["rotation"] = [coords, sizes, t]
        if "rotation" not in self.hooks:
            return None
        return axial_angles(coords / sizes * (1 + t[..., None]), plain(10.0, HEAD // 2))

    def logit_scale(self, sizes):
        self.seen["logit_scale"] = [sizes]
        return sizes.prod(-1).log() if "logit_scale" in self.hooks else None


ALL = ("place", "embed", "rotation", "logit_scale")


def run(encoding: Position, times=(250.0, 750.0), seed: int = 3, packed: bool = False) -> Tensor:
    """Two 6 x 10 images (3 x 5 tokens) through a backbone with ``encoding``: (2, 15, 12)."""
    model = random_dit(encoding)
    tokens, coords = draw(2, 15, 12), grid_coords(3, 5).expand(2, -1, -1)
    generator = torch.Generator().manual_seed(seed)
    t, y = torch.tensor(times), torch.tensor([0, 1])
    if packed:
        tokens, coords, lengths = tokens.flatten(0, 1), coords.flatten(0, 1), torch.tensor([15, 15])
        out = model.forward_tokens(tokens, coords, t, y, lengths=lengths, generator=generator)
        return out.unflatten(0, (2, 15))
    return model.forward_tokens(tokens, coords, t, y, generator=generator)


@torch.no_grad()
@pytest.mark.parametrize("hook", ALL)
def test_every_hook_of_a_custom_encoding_changes_the_output(hook):
    """``place`` needs another hook to show through, so it is added to the rotation."""
    base = ("rotation",) if hook == "place" else ()
    without, with_hook = run(Everything(*base)), run(Everything(*base, hook))
    assert (with_hook - without).abs().max() > 1e-3


@torch.no_grad()
def test_a_custom_encoding_sees_what_the_contract_says():
    """Placed coordinates everywhere, the full grid, and times with 1 = noise."""
    encoding = Everything(*ALL)
    run(encoding)
    coords, grid = encoding.seen["place"]
    assert torch.equal(coords[0], grid_coords(3, 5))
    assert torch.equal(grid.expand_as(coords), torch.tensor([3.0, 5.0]).expand_as(coords))
    placed = encoding.seen["embed"][0]
    assert not torch.equal(placed, coords)
    assert torch.equal(encoding.seen["rotation"][0], placed)  # drawn once, shared
    times = encoding.seen["rotation"][2].expand(coords.shape[:-1])
    assert torch.equal(times[:, 0], torch.tensor([0.25, 0.75]))


@torch.no_grad()
def test_a_custom_encoding_gives_the_same_numbers_packed():
    """Positions are drawn image by image, however the batch lies."""
    padded, packed = run(Everything(*ALL)), run(Everything(*ALL), packed=True)
    torch.testing.assert_close(packed, padded, rtol=0, atol=1e-5)


@torch.no_grad()
def test_the_grid_is_that_of_the_real_tokens_unless_it_is_given():
    """Padding's coordinates, whatever they are, do not enlarge it; packed, it is each image's."""
    encoding = Everything()
    model, t, y = random_dit(encoding), torch.tensor([1.0, 2.0]), torch.tensor([0, 1])
    coords = torch.full((2, 15, 2), 77.0)
    coords[0], coords[1, :8] = grid_coords(3, 5), grid_coords(4, 2)
    mask = torch.ones(2, 15, dtype=torch.bool)
    mask[1, 8:] = False
    tokens, grids = draw(2, 15, 12), torch.tensor([[3.0, 5.0], [4.0, 2.0]])
    model.forward_tokens(tokens, coords, t, y, mask=mask)
    assert torch.equal(encoding.seen["place"][1].expand_as(coords)[:, 0], grids)
    lengths = torch.tensor([15, 8])
    model.forward_tokens(tokens[mask], coords[mask], t, y, lengths=lengths)
    assert torch.equal(encoding.seen["place"][1], grids[:, None])  # by image, also when packed
    assert torch.equal(encoding.seen["embed"][1], grids.repeat_interleave(lengths, dim=0))
    crops = torch.tensor([[8.0, 8.0], [6.0, 9.0]])  # tokens of a crop know the full grid
    model.forward_tokens(tokens, coords, t, y, mask=mask, sizes=crops)
    assert torch.equal(encoding.seen["place"][1].expand_as(coords)[:, 0], crops)


@torch.no_grad()
def test_random_positions_follow_the_generator():
    same, again, other = (run(Everything(*ALL), seed=seed) for seed in (3, 3, 4))
    assert torch.equal(same, again)
    assert (same - other).abs().max() > 1e-3


@torch.no_grad()
def test_logit_scale_multiplies_the_logits():
    """Scale 0 makes attention uniform, so the rotation no longer matters."""

    class Flat(Everything):
        def logit_scale(self, sizes):
            return torch.zeros(sizes.shape[:-1])

    assert torch.equal(run(Flat("rotation")), run(Flat()))
    assert (run(Everything("rotation")) - run(Everything())).abs().max() > 1e-3


@pytest.mark.parametrize(
    "config",
    [
        SinCosConfig(temperature="sqrt_log"),
        RopeConfig(scaling="ntk", temperature="log_ratio"),
        RPE2DConfig(additive=True, temperature="sqrt_log"),
        RPE2DConfig(base="sincos"),
    ],
    ids=["sincos", "rope", "rpe2d", "rpe2d sincos"],
)
def test_a_second_training_counts_from_the_grid_of_the_first(config):
    """Told the first grid, it encodes its own size as the first model was drawn at it."""
    first = build_position(config, 32, 2, (4, 6))
    kept = config.model_copy(update={"trained_grid": "4x6"})
    coords, sizes = grid_coords(8, 9)[None], torch.tensor([[[8.0, 9.0]]])
    t = torch.tensor(0.5)

    def encoded(position: Position) -> list[Tensor | None]:
        placed = position.place(coords, sizes, None)
        given = (position.embed(placed, sizes), position.rotation(placed, sizes, t))
        return [*given, position.logit_scale(sizes)]

    def same(one: list[Tensor | None], other: list[Tensor | None]) -> bool:
        pairs = zip(one, other, strict=True)
        return all(a is b if a is None or b is None else torch.equal(a, b) for a, b in pairs)

    assert same(encoded(build_position(kept, 32, 2, (8, 9))), encoded(first))
    assert not same(encoded(build_position(config, 32, 2, (8, 9))), encoded(first))


def test_a_saved_encoding_without_a_kind_is_rope():
    assert read_position(None) == read_position({}) == RopeConfig()
    assert read_position({"trained_side": None}) == RopeConfig()
    assert read_position({"trained_side": 16}) == RopeConfig(trained_grid="16x16")
    assert read_position({"temperature": "log_ratio"}) == RopeConfig(temperature="log_ratio")

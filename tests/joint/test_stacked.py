"""Stacked rows through one frozen model: what equals the base, and what tells what of what."""

import copy

import pytest
import torch

from diffgen.joint.stacked import Stacked
from diffgen.models.attention import Padded
from diffgen.models.tokens import pack, pad
from tests.adapters import RANDOM, adapter_of, joined, rows
from tests.tiny import build

ROPE = {"kind": "rope"}
MODELS = {
    "sincos": {"position": {"kind": "sincos"}},
    "rope": {"position": ROPE},
    "yarn": {"position": {**ROPE, "scaling": "yarn", "temperature": "sqrt_log"}},
    "time aware": {"position": {**ROPE, "scaling": "time_aware"}},
    "rpe2d": {"position": RANDOM},
    "fitv2": {"adaln_rank": 4, "mlp": "swiglu", "position": {**ROPE, "additive": False}},
    "dit": {"mlp": "mlp", "qk_norm": False, "out_channels": 6},
    "data": {"time": {"direction": "data", "scale": 1}, "position": ROPE},
}
ADAPTERS = [
    {"every": 2},
    {"condition_rank": 0},
    {"projection": "fused", "projection_rank": 0},
    {"projection": "shared", "projection_rank": 0},
    {"projection": "shared", "projection_rank": 2},
]


def told(model, pairs: int, parts: int = 2) -> dict:
    """Generators for an encoding that draws, the same for the branches of a pair."""
    if not model.encoding.draws_always:
        return {}
    return {"generator": [torch.Generator().manual_seed(k) for k in range(pairs)] * parts}


def made(name: str = "rope", **options):
    return build(depth=3, **MODELS[name], **options).transformer.requires_grad_(False)


@torch.no_grad()
def base(model, given, parts: int = 2):
    """What the frozen model makes of the same rows, by branch."""
    return model(*given, **told(model, len(given[0]) // parts, parts)).chunk(parts)


def changed(given, row: int):
    """The same rows but for the picture of one."""
    x = given[0].clone()
    x[row] += 1
    return [x, *given[1:]]


def moved(one, other, atol: float = 1e-4) -> list[bool]:
    """By row, whether two outputs differ."""
    return [not torch.allclose(a, b, atol=atol) for a, b in zip(one, other, strict=True)]


@pytest.mark.parametrize("size", [(8, 8), (12, 20)])
@pytest.mark.parametrize("name", MODELS)
def test_a_fresh_adapter_leaves_both_branches_to_the_frozen_model_bit_for_bit(name, size):
    model = made(name)
    given = rows(model, 6, *(size if name != "rpe2d" else (8, 12)))
    found = joined(model, [adapter_of(model, drawn=False)], [1.0], given, **told(model, 3))
    for one, other in zip(found, base(model, given), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("options", ADAPTERS)
def test_so_does_every_kind_of_adapter(options):
    model = made()
    given = rows(model, 6, 8, 12)
    for one, other in zip(
        joined(model, [adapter_of(model, drawn=False, **options)], [1.0], given),
        base(model, given),
        strict=True,
    ):
        assert torch.equal(one, other)


def test_and_so_do_two_of_them():
    model = made("fitv2")
    given = rows(model, 6)
    adapters = [adapter_of(model, drawn=False, seed=seed) for seed in (0, 1)]
    found = joined(model, adapters, [1.0, 0.5], given)
    for one, other in zip(found, base(model, given, 3), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("name", ["sincos", "rpe2d", "fitv2"])
@pytest.mark.parametrize("off", [0.0, torch.zeros(3)], ids=["number", "tensor"])
def test_without_joint_attention_images_are_the_frozen_model_s_bit_for_bit(name, off):
    model = made(name)
    given = rows(model, 6, 8, 12)
    found = joined(model, [adapter_of(model)], [off], given, **told(model, 3))
    frozen = base(model, given)
    assert torch.equal(found[0], frozen[0])
    assert all(moved(found[1], frozen[1]))


@pytest.mark.parametrize("name", ["rope", "fitv2", "dit"])
def test_conditions_are_drawn_by_a_model_with_their_lora_and_modality_merged_in(name):
    model = made(name)
    adapter = adapter_of(model)
    merged = copy.deepcopy(model)
    with torch.no_grad():
        merged.t_embedder.mlp[2].bias += adapter.modality
        for number, block in enumerate(merged.blocks):
            products = {
                name: one.up.weight @ one.down.weight
                for name, one in adapter.block(number).own.named_children()
            }
            block.attn.qkv.weight += torch.cat([products[name] for name in "qkv"])
            block.attn.proj.weight += products["out"]
    given = rows(model, 6)
    found, expected = joined(model, [adapter], [0.0], given)[1], base(merged, given)[1]
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_a_row_of_strength_0_is_as_without_joint_attention():
    """And a number is the same as so many rows of it."""
    model, given = made(), rows(made(), 6)
    adapter = adapter_of(model)
    off, half, on = (joined(model, [adapter], [s], given) for s in (0.0, 0.5, 1.0))
    mixed = joined(model, [adapter], [torch.tensor([1.0, 0.0, 0.5])], given)
    for branch in range(2):
        assert all(moved(off[branch], on[branch]))
        for row, other in enumerate((on, off, half)):
            torch.testing.assert_close(mixed[branch][row], other[branch][row])


def test_pairs_are_strangers_to_each_other_and_their_order_does_not_matter():
    model, given, order = made("time aware"), rows(made(), 6, 12, 20), [2, 0, 1]
    adapter, strengths = adapter_of(model, projection="shared"), torch.tensor([1.0, 0.3, 0.7])
    found = joined(model, [adapter], [strengths], given)
    other = [z[[*order, *(3 + k for k in order)]] for z in given]
    permuted = joined(model, [adapter], [strengths[order]], other)
    for one, two in zip(found, permuted, strict=True):
        torch.testing.assert_close(one[order], two)


def swapped(adapter):
    """A copy whose two directions are exchanged."""
    other = copy.deepcopy(adapter)
    for number in range(len(other.blocks)):
        joint = other.block(number).joint
        joint.to_image, joint.to_condition = joint.to_condition, joint.to_image
        if joint.fused:
            half = joint.project.weight.shape[0] // 2
            with torch.no_grad():
                joint.project.weight.copy_(joint.project.weight.roll((half, half), dims=(0, 1)))
    return other


@pytest.mark.parametrize("projection", ["shared", "fused"])
@pytest.mark.parametrize("name", ["time aware", "fitv2"])
def test_exchanged_branches_give_exchanged_outputs(name, projection):
    """Where nothing but the direction tells one from the other."""
    model = made(name)
    given = rows(model, 6, 12, 20)
    adapter = adapter_of(model, condition_rank=0, projection=projection, projection_rank=0)
    torch.nn.init.zeros_(adapter.modality)
    one = joined(model, [adapter], [1.0], given)
    turned = [z.roll(3, dims=0) for z in given]
    two = joined(model, [swapped(adapter)], [1.0], turned)
    for a, b in zip(one, reversed(two), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    unlike = joined(model, [adapter], [1.0], turned)
    assert all(moved(one[0], unlike[1]))


@pytest.mark.parametrize("row", [1, 3 + 1], ids=["image", "condition"])
def test_a_changed_row_changes_its_counterpart_and_no_other_pair(row):
    model, given = made(), rows(made(), 6)
    adapter = adapter_of(model, every=2)
    for strength, reached in ((1.0, [1, 3 + 1]), (0.0, [row])):
        one = torch.cat(joined(model, [adapter], [strength], given))
        two = torch.cat(joined(model, [adapter], [strength], changed(given, row)))
        assert [k for k, moves in enumerate(moved(one, two)) if moves] == reached


def test_the_image_sees_both_conditions_and_they_see_the_image_alone():
    """In one block; through the image they learn of each other in the next."""
    model = build(depth=1, position=ROPE).transformer
    given = rows(model, 6)
    adapters = [adapter_of(model, seed=seed) for seed in (0, 1)]

    def reached(row: int) -> list[int]:
        one, two = (
            torch.cat(joined(model, adapters, [1.0, 1.0], z)) for z in (given, changed(given, row))
        )
        return [k for k, moves in enumerate(moved(one, two)) if moves]

    assert reached(0) == [0, 2, 4]  # two rows a branch
    assert reached(2) == [0, 2]
    assert reached(4) == [0, 4]


@torch.no_grad()
def test_what_two_conditions_tell_the_image_adds_up_by_their_weights():
    """Of what a block's attention hands on, which nothing but sums stands behind."""
    model = made("time aware")
    adapters = [adapter_of(model, seed=seed) for seed in (0, 1)]
    x = torch.randn(6, 24, 32, generator=torch.Generator().manual_seed(0))
    angles = torch.randn(6, 24, 8, generator=torch.Generator().manual_seed(1))
    rotation, scale = (angles.cos(), angles.sin()), torch.linspace(0.5, 1.5, 6)[:, None]

    def attended(*strengths):
        stacked, attention = Stacked(adapters, strengths), model.blocks[1].attn
        return stacked.attend(1, attention, x, Padded(), rotation, scale).chunk(3)

    off, first, second = attended(0.0, 0.0), attended(1.0, 0.0), attended(0.0, 1.0)
    both = attended(0.6, torch.tensor([0.3, 1.2]))
    weights = torch.tensor([0.3, 1.2])[:, None, None]
    total = off[0] + 0.6 * (first[0] - off[0]) + weights * (second[0] - off[0])
    torch.testing.assert_close(both[0], total, rtol=1e-4, atol=1e-5)
    assert (first[0] - second[0]).abs().max() > 0.1
    torch.testing.assert_close(both[1], torch.lerp(off[1], first[1], 0.6))
    torch.testing.assert_close(both[2], off[2] + weights * (second[2] - off[2]))


def test_a_condition_is_the_same_beside_another_that_has_no_say():
    """With an encoding that turns each branch by its own time, on a grid beyond the trained one."""
    model = made("time aware")
    first, second = adapter_of(model, seed=0), adapter_of(model, seed=1)
    given = rows(model, 6, 16, 24)
    found = joined(model, [first, second], [0.0, 1.0], given)
    alone = joined(model, [second], [1.0], [torch.cat([z[:2], z[4:]]) for z in given])
    for one, other in zip((found[0], found[2]), alone, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def gradients(model, adapter, given):
    """Of the adapter's parameters, of a loss of both branches."""
    out = model(*given, adapter=Stacked([adapter], [torch.tensor([1.0, 0.0, 0.5])]))
    names, parameters = zip(*adapter.named_parameters(), strict=True)
    found = torch.autograd.grad(out.square().mean(), parameters)
    return dict(zip(names, found, strict=True))


def test_gradients_reach_the_adapter_and_nothing_else():
    model, given = made(), rows(made(), 6)
    adapter = adapter_of(model)
    model(*given, adapter=Stacked([adapter], [1.0])).square().mean().backward()
    assert all(parameter.grad.any() for parameter in adapter.parameters())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_fresh_adapter_learns_its_projections_own_lora_and_modality_first():
    """Whatever ends in zero; the rest gets its first gradient when that has moved."""
    model, given = made(), rows(made(), 6)
    found = gradients(model, adapter_of(model, drawn=False), given)
    reached = {name for name, gradient in found.items() if gradient.any()}
    ends = ["joint.project.up.weight", *(f"own.{map}.up.weight" for map in ("q", "k", "v", "out"))]
    assert reached == {"modality", *(f"blocks.{k}.{end}" for k in range(3) for end in ends)}


@pytest.mark.parametrize("name", ["rope", "fitv2"])
def test_gradient_checkpointing_gives_the_same_bits(name):
    results = []
    for checkpointing in (False, True):
        model = made(name)
        if checkpointing:
            model.enable_gradient_checkpointing()
        found = gradients(model, adapter_of(model, projection="shared"), rows(model, 6))
        results.append(found)
    for parameter, gradient in results[0].items():
        assert gradient.any(), parameter
        assert torch.equal(gradient, results[1][parameter]), parameter


def test_the_model_is_not_changed_by_a_pass_with_an_adapter():
    model, given = made(), rows(made(), 6)
    before = copy.deepcopy(model.state_dict())
    plain = base(model, given)
    joined(model, [adapter_of(model)], [1.0], given)
    assert all(torch.equal(before[name], z) for name, z in model.state_dict().items())
    assert all(torch.equal(a, b) for a, b in zip(base(model, given), plain, strict=True))


@pytest.mark.parametrize("way", ["packed", "masked"])
def test_images_of_mixed_sizes_are_refused(way):
    model, (x, t, y) = made(), rows(made(), 2)
    batch = pack([x[0], x[1, :, :4]], 2)
    stacked = Stacked([adapter_of(model)], [1.0])
    if way == "packed":
        tokens, coords, told = batch.tokens, batch.coords, {"lengths": batch.lengths}
    else:
        tokens, mask = pad(batch.tokens, batch.lengths)
        coords, told = pad(batch.coords, batch.lengths)[0], {"mask": mask}
    with pytest.raises(ValueError, match="takes images of one size"):
        model(tokens, t, y, coords, adapter=stacked, **told)

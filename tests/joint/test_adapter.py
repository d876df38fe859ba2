"""What an adapter consists of, how large it is, and its way to the disk and back."""

import pytest
import torch
from torch import nn

from diffgen.config.model import DiTConfig
from diffgen.joint.adapter import MOST, JointAdapter
from diffgen.joint.low_rank import LowRank
from diffgen.models.dit import DiT
from tests.adapters import adapter_of, joined, rows
from tests.tiny import build

DIT_XL = DiTConfig(size="XL", patch_size=2, mlp="mlp", qk_norm=False)
FITV2 = DiTConfig(
    size="FiTv2-XL", patch_size=2, adaln="lora", position={"kind": "rope", "additive": False}
)


def released(config: DiTConfig) -> DiT:
    """A model on latents of 256 x 256 images, without its weights."""
    with torch.device("meta"):
        return DiT.build(
            config, num_classes=1000, in_channels=4, sample_size=(32, 32), learned_variance=True
        )


def of(model: DiT, **options) -> JointAdapter:
    """Its adapter, without the weights."""
    with torch.device("meta"):
        return JointAdapter.of(model, "depth", 1, False, **options)


def numbers(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_a_low_rank_map_starts_at_zero_and_adds_its_product():
    low = LowRank(6, 5, 2)
    x, base = torch.randn(3, 4, 6), torch.randn(3, 4, 15)[..., 5:10]
    assert torch.equal(low(x), torch.zeros(3, 4, 5))
    assert torch.equal(low.onto(base, x), base)
    nn.init.normal_(low.up.weight)
    product = x @ (low.up.weight @ low.down.weight).T
    torch.testing.assert_close(low(x), product)
    torch.testing.assert_close(low.onto(base, x), base + product)


@pytest.mark.parametrize(
    ("options", "joined_blocks", "projection"),
    [
        ({}, 5, 32 * 32),
        ({"condition_rank": 0}, 5, 32 * 32),
        ({"every": 2}, 3, 32 * 32),
        ({"projection": "fused", "condition_rank": 1}, 5, 64 * 64),
        ({"projection": "fused", "projection_rank": 3, "every": 9}, 1, 2 * 64 * 3),
        ({"projection_rank": 3}, 5, 2 * 32 * 3),
    ],
)
def test_an_adapter_has_as_many_parameters_as_its_numbers_say(options, joined_blocks, projection):
    """A LoRA of four maps is 8 rank width; nothing of the frozen attention is copied."""
    adapter = adapter_of(build(depth=5).transformer, rank=3, **options)
    own = 5 * 8 * options.get("condition_rank", 3) * 32
    assert numbers(adapter) == 32 + own + joined_blocks * (2 * 8 * 3 * 32 + projection)


def test_every_so_many_blocks_are_joined_and_the_last_is_one_of_them():
    adapter = adapter_of(build(depth=5).transformer, every=2)
    assert [adapter.block(k).joint is not None for k in range(5)] == [True, False] * 2 + [True]
    assert all(adapter.block(k).own is not None for k in range(5))


@pytest.mark.parametrize(
    ("config", "rank", "options"),
    [
        (DIT_XL, 72, {}),
        (FITV2, 53, {}),
        (DIT_XL, 52, {"projection": "fused", "every": 2}),
        (FITV2, 72, {"projection": "fused", "projection_rank": 64}),
    ],
)
def test_an_adapter_of_a_released_model_is_15_percent_of_it_or_less(config, rank, options):
    """Of a rank that is a sixteenth of the width, or less; one more rank would be too much."""
    model = released(config)
    adapter = of(model, **options)
    assert (adapter.config.rank, adapter.config.condition_rank) == (rank, rank)
    assert numbers(adapter) <= MOST * numbers(model)
    if rank < config.hidden_size // 16:
        assert numbers(of(model, rank=rank + 1, **options)) > MOST * numbers(model)


def test_the_adapter_of_the_demo_model_is_15_percent_of_it_or_less():
    model = DiT.build(DiTConfig(), num_classes=8, in_channels=3, sample_size=(32, 32))
    adapter = of(model)
    assert adapter.config.rank == 8
    assert 0.1 < numbers(adapter) / numbers(model) <= MOST


def test_the_rank_is_1_where_the_projection_alone_is_too_large():
    model = released(DIT_XL)
    adapter = of(model, projection="fused")
    assert adapter.config.rank == 1
    assert numbers(adapter) > MOST * numbers(model)


def test_the_condition_s_own_rank_is_that_of_the_joint_attention_if_none_is_given():
    model = build(hidden_size=64).transformer
    ranks = [
        (adapter.config.rank, adapter.config.condition_rank)
        for adapter in (of(model, rank=5), of(model, rank=5, condition_rank=0))
    ]
    assert ranks == [(5, 5), (5, 0)]
    assert of(model, condition_rank=0).config.rank > of(model, condition_rank=20).config.rank == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": 0}, "rank must be 1 or more, not 0"),
        ({"condition_rank": -1}, "condition_rank must be 0 or more, not -1"),
        ({"every": 0}, "every must be 1 or more, not 0"),
        ({"projection_rank": 0}, "projection_rank must be 1 or more, not 0"),
        ({"projection": "both"}, "projection 'both' is not one of shared, fused"),
    ],
)
def test_numbers_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        of(build().transformer, **options)


@pytest.mark.parametrize(
    "options",
    [{}, {"every": 2, "projection": "fused"}, {"condition_rank": 0, "projection_rank": 2}],
)
def test_a_saved_adapter_comes_back(tmp_path, options):
    model = build(depth=3).transformer
    adapter = adapter_of(model, backbone="abc", **options)
    adapter.save_pretrained(tmp_path)
    assert [file.name for file in sorted(tmp_path.iterdir())] == [
        "config.json",
        "diffusion_pytorch_model.safetensors",
    ]
    found = JointAdapter.from_pretrained(tmp_path).eval()
    stated = {name: value for name, value in adapter.config.items() if name[0] != "_"}
    assert {name: found.config[name] for name in stated} == stated
    given = rows(model, 4)
    one, other = joined(model, [adapter], [1.0], given), joined(model, [found], [1.0], given)
    assert torch.equal(torch.cat(one), torch.cat(other))

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
        ({"projection": "shared", "projection_rank": 0}, 5, 32 * 32),
        ({"projection": "shared", "projection_rank": 3, "condition_rank": 0}, 5, 2 * 32 * 3),
        ({"projection": "fused", "projection_rank": 0, "condition_rank": 1}, 5, 64 * 64),
        ({"projection": "fused", "projection_rank": 3, "every": 2}, 3, 2 * 64 * 3),
        ({"projection": "fused", "projection_rank": 3, "every": 9}, 1, 2 * 64 * 3),
    ],
)
def test_an_adapter_has_as_many_parameters_as_its_numbers_say(options, joined_blocks, projection):
    """A LoRA of four maps is 8 rank width; nothing of the frozen attention is copied."""
    adapter = adapter_of(build(depth=5).transformer, rank=3, **options)
    own = 5 * 8 * options.get("condition_rank", 3) * 32
    assert numbers(adapter) == 32 + own + joined_blocks * (2 * 8 * 3 * 32 + projection)


def test_every_so_many_blocks_are_joined_and_the_last_is_one_of_them():
    for every, joined_blocks in ((1, [0, 1, 2, 3, 4]), (2, [0, 2, 4]), (3, [1, 4]), (9, [4])):
        adapter = adapter_of(build(depth=5).transformer, every=every)
        assert [k for k in range(5) if adapter.block(k).joint is not None] == joined_blocks
        assert all(adapter.block(k).own is not None for k in range(5))


@pytest.mark.parametrize(
    ("config", "options", "ranks"),
    [
        (DIT_XL, {}, (36, 568)),
        (FITV2, {}, (36, 390)),
        (DIT_XL, {"projection": "shared"}, (36, 576)),
        (FITV2, {"every": 2}, (36, 576)),
        (DIT_XL, {"rank": 64, "condition_rank": 0}, (64, 528)),
        (DiTConfig(), {}, (4, 64)),
    ],
)
def test_an_adapter_is_15_percent_of_its_model_or_less(config, options, ranks):
    """Its projection has the rank that this leaves, up to half the width."""
    model = released(config)
    adapter = of(model, **options)
    assert (adapter.config.rank, adapter.config.projection_rank) == ranks
    assert adapter.config.condition_rank == options.get("condition_rank", ranks[0])
    assert numbers(adapter) <= MOST * numbers(model)
    if ranks[1] < config.hidden_size // 2:
        larger = of(model, **options, projection_rank=ranks[1] + 1)
        assert numbers(larger) > MOST * numbers(model)


def test_the_projection_has_rank_1_where_the_rest_alone_is_too_large():
    model = released(DIT_XL)
    adapter = of(model, rank=150)
    assert adapter.config.projection_rank == 1
    assert numbers(adapter) > MOST * numbers(model)


def test_a_projection_rank_of_0_is_one_in_full():
    adapter = of(build().transformer, projection_rank=0)
    assert adapter.config.projection_rank is None
    assert adapter.block(0).joint.project.weight.shape == (64, 64)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": 0}, "rank must be 1 or more, not 0"),
        ({"condition_rank": -1}, "condition_rank must be 0 or more, not -1"),
        ({"every": 0}, "every must be 1 or more, not 0"),
        ({"projection_rank": -1}, "projection_rank must be 1 or more, not -1"),
        ({"projection": "both"}, "projection 'both' is not one of shared, fused"),
    ],
)
def test_numbers_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        of(build().transformer, **options)


@pytest.mark.parametrize(
    "options",
    [{}, {"every": 2, "projection": "shared"}, {"condition_rank": 0, "projection_rank": 0}],
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

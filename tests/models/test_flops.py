"""MACs of a DiT: against published numbers, and against torch's own count of the real model."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from diffgen import DiT
from diffgen.config.model import SIZES
from diffgen.models.flops import Skipped, forward_macs, training_flops
from diffgen.models.route import draw_route

TINY = {"sample_size": (8, 8), "hidden_size": 32, "depth": 4, "num_heads": 2, "patch_size": 2}


@pytest.mark.parametrize(
    ("size", "side", "giga"),
    [("S", 32, 6.06), ("B", 32, 23.0), ("L", 32, 80.7), ("XL", 32, 118.6), ("XL", 64, 524.5)],
)
def test_dits_have_the_published_numbers(size, side, giga):
    depth, width, heads = SIZES[size]
    config = {
        "depth": depth,
        "hidden_size": width,
        "num_heads": heads,
        "patch_size": 2,
        "in_channels": 4,
        "out_channels": 8,
        "mlp": "mlp",
        "mlp_ratio": 4.0,
    }
    assert forward_macs(config, (side, side)) / 1e9 == pytest.approx(giga, rel=1e-3)


def counted(model: DiT, size: tuple[int, int], images: int = 1, **options) -> float:
    """MACs of a forward pass as torch's dispatcher sees them."""
    x = torch.zeros(images, model.config.in_channels, *size)
    t, y = torch.zeros(images), torch.zeros(images, dtype=torch.int64)
    # torch knows no count for the fused attention of a CPU.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(x, t, y, **options)
    return counter.get_total_flops() / 2


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({}, (8, 8)),
        ({"mlp": "mlp", "mlp_ratio": 3.0}, (8, 12)),
        ({"adaln_rank": 8, "micro": "pixels"}, (4, 8)),
        ({"out_channels": 6, "in_channels": 4, "patch_size": 4, "hidden_size": 48}, (16, 8)),
    ],
)
def test_every_matrix_product_of_the_model_is_counted(options, size):
    model = DiT(**{**TINY, **options})
    assert forward_macs(model.config, size) == counted(model, size)


def test_tokens_that_skip_blocks_are_not_counted_there():
    model = DiT(**TINY)
    route = draw_route(seed=0, numbers=[0], tokens=16, share=0.75, first=1, last=3)
    fewer = forward_macs(model.config, (8, 8), Skipped(tokens=4, first=1, last=3))
    assert fewer == counted(model, (8, 8), route=route)
    assert fewer < forward_macs(model.config, (8, 8))


def test_a_backward_pass_computes_twice_the_forward():
    model = DiT(**TINY)
    x = torch.zeros(1, 3, 8, 8, requires_grad=True)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(x, torch.zeros(1), torch.zeros(1, dtype=torch.int64)).sum().backward()
    # The sinusoids of the time need no gradient, which saves one of the six.
    spared = 2 * 256 * 32
    assert counter.get_total_flops() == training_flops(forward_macs(model.config, (8, 8))) - spared

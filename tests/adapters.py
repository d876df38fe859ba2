"""Adapters for tiny models, and stacked rows to try them on."""

import torch
from torch import Tensor

from diffgen import DiT
from diffgen.joint.adapter import JointAdapter
from diffgen.joint.stacked import Stacked

RANDOM = {"kind": "rpe2d", "inference": "random"}


def adapter_of(model: DiT, drawn: bool = True, seed: int = 0, **options) -> JointAdapter:
    """One of rank 2 for ``model``; ``drawn``: every weight from N(0, 0.2^2), else as it starts."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        adapter = JointAdapter.of(model, "depth", 1, False, **{"rank": 2, **options})
        if drawn:
            with torch.no_grad():
                for parameter in adapter.parameters():
                    parameter.normal_(std=0.2)
    return adapter.eval()


def rows(model: DiT, count: int, height: int = 8, width: int = 8, seed: int = 0) -> list[Tensor]:
    """x, t and y of ``count`` rows, each at a time of its own."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, model.config.in_channels, height, width, generator=generator)
    t = torch.linspace(0.05, 0.95, count) * model.convention.scale
    return [x, t, torch.arange(count) % (model.num_classes + 1)]


@torch.no_grad()
def joined(model: DiT, adapters, strengths, given, **told) -> tuple[Tensor, ...]:
    """Output of stacked rows, by branch."""
    out = model(*given, adapter=Stacked(adapters, strengths), **told)
    return out.chunk(1 + len(adapters))

"""Adapters of tiny models whose every weight is random, so that the joint attention does much."""

import torch

from diffgen.joint.adapter import JointAdapter
from diffgen.lacon.conditions import Condition
from diffgen.models.beside import fingerprint


def random_adapter(model, condition: Condition, seed: int = 0, **options) -> JointAdapter:
    """One for ``model`` with weights from N(0, 0.2^2), saved as its own."""
    told = (condition.name, condition.channels, condition.binary)
    adapter = JointAdapter.of(model, *told, **options)
    adapter.register_to_config(backbone=fingerprint(model))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in adapter.parameters():
            p.copy_(0.2 * torch.randn(p.shape, generator=generator))
    return adapter


def save_adapter(model, condition: Condition, folder, seed: int = 0) -> None:
    """One in ``folder``, as ``train/joint.py`` puts it in RUN/joint."""
    random_adapter(model, condition, seed).save_pretrained(folder / condition.name / "adapter")

"""Adapters of tiny models whose every weight is random, so that the joint attention does much.

And what is drawn by them.
"""

import torch

from diffgen.joint.adapter import JointAdapter
from diffgen.joint.pictures import JointOutput
from diffgen.joint.pipeline import JointPipeline
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


def joint_of(pipe, *conditions: Condition) -> JointPipeline:
    """One with an adapter of each of ``conditions``, the k-th of seed k."""
    found = [(random_adapter(pipe.transformer, one, k), one) for k, one in enumerate(conditions)]
    return JointPipeline(pipe, found)


def drawn(joint: JointPipeline, labels=(0, 1, 2), **options) -> JointOutput:
    """Of seed 11 in 4 steps."""
    settings = {"num_inference_steps": 4, "seed": 11, **options}
    return joint(list(labels) if labels is not None else None, **settings)


def noise(*shape, seed=5) -> torch.Tensor:
    """Uniform in [-1, 1]."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1

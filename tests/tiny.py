"""A tiny model as a pipeline, and what it draws."""

import torch

from diffgen import DiffGenPipeline, DiT
from diffgen.sampling.schedulers import build_scheduler

NAMES = ["cat", "dog", "newt"]


def build(scheduler: str = "euler", **options) -> DiffGenPipeline:
    """A tiny model with every weight drawn from N(0, 0.1^2), trained at 8 x 8."""
    settings = {"sample_size": (8, 8), "hidden_size": 32, "depth": 2, "num_heads": 2}
    model = DiT(**{**settings, "patch_size": 2, "num_classes": 3, **options})
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(0.1 * torch.randn(p.shape, generator=generator))
    names = NAMES[: model.num_classes]
    pipe = DiffGenPipeline(model, build_scheduler(scheduler), names)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def draw(pipe, labels=(0, 1, 2), **options):
    """Images as the model's own x0, four steps."""
    settings = {"num_inference_steps": 4, "seed": 11, "output_type": "latent", **options}
    return pipe(list(labels) if labels is not None else None, **settings).images

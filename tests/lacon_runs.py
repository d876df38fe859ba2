"""Run folders of tiny models with random weights, which aligners can be trained on."""

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL

from diffgen import DiffGenPipeline, DiT
from diffgen.config.command_line import to_yaml
from diffgen.config.train import TrainConfig
from diffgen.data.shapes import CLASS_NAMES
from diffgen.sampling.schedulers import build_scheduler


def pipeline(vae: AutoencoderKL | None = None, **options: Any) -> DiffGenPipeline:
    """A model of shapes at 16 x 16 with random weights, through which pictures still show."""
    settings = {"sample_size": (16, 16), "hidden_size": 32, "depth": 2, "num_heads": 2}
    if vae is not None:
        settings |= {"sample_size": (8, 8), "in_channels": 4}
    model = DiT(**{**settings, "patch_size": 2, "num_classes": 8, **options})
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, p in model.named_parameters():
            scale = 1.0 if name.startswith("x_embedder") else 0.1
            p.copy_(scale * torch.randn(p.shape, generator=generator))
    return DiffGenPipeline(model, build_scheduler("euler"), list(CLASS_NAMES), vae=vae)


def tiny_run(folder: Path, data: dict[str, Any] | None = None, **options: Any) -> Path:
    """``folder`` as the training on ``data`` (shapes at 16 x 16) would have left it."""
    pipeline(**options).save_pretrained(folder / "pipeline")
    described = TrainConfig(data=data or {"kind": "shapes", "size": "16x16"})
    (folder / "config.yaml").write_text(to_yaml(described))
    return folder

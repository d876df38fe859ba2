"""Run folders of tiny models with random weights, and short trainings of aligners for them."""

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file
from torch import Tensor

from diffgen import DiffGenPipeline, DiT
from diffgen.config.command_line import to_yaml
from diffgen.config.lacon import LaconConfig
from diffgen.config.process import DDPMConfig
from diffgen.config.train import TrainConfig
from diffgen.data.shapes import CLASS_NAMES
from diffgen.sampling.schedulers import build_scheduler
from tests.trainings import TWELVE_STEPS, changed


def pipeline(
    vae: AutoencoderKL | None = None, chain: DDPMConfig | None = None, **options: Any
) -> DiffGenPipeline:
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
    scheduler = build_scheduler("ddpm", process=chain) if chain else build_scheduler("euler")
    return DiffGenPipeline(model, scheduler, list(CLASS_NAMES), vae=vae)


def tiny_run(folder: Path, data: dict[str, Any] | None = None, **options: Any) -> Path:
    """``folder`` as the training on ``data`` (shapes at 16 x 16) would have left it."""
    pipeline(**options).save_pretrained(folder / "pipeline")
    described = TrainConfig(data=data or {"kind": "shapes", "size": "16x16"})
    (folder / "config.yaml").write_text(to_yaml(described))
    return folder


def settings(run: Path, **changes: Any) -> LaconConfig:
    """A training of 96 images in 12 steps; ``section={...}`` changes single fields."""
    base = {
        "source": str(run),
        "condition": "palette",
        "device": "cpu",
        **TWELVE_STEPS,
    }
    return LaconConfig.model_validate(changed(base, changes))


def tensors(out: Path) -> dict[str, Tensor]:
    """Every tensor of the newest checkpoint and of the exported aligner, by file and name."""
    newest = sorted((out / "checkpoints").iterdir())[-1]
    files = [file for folder in (newest, out / "aligner") for file in folder.glob("*.safetensors")]
    return {
        f"{file.relative_to(out)}/{name}": tensor
        for file in files
        for name, tensor in load_file(file).items()
    }

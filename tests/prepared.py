"""Pictures on the disk and latents of them, for the tests of what is prepared."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from diffgen.commands.prepare import prepare
from diffgen.config.prepare import PrepareConfig
from diffgen.errors import UserError

WEIGHTS = "diffusion_pytorch_model.safetensors"
SECOND = "8x12/shard-00001.safetensors"
"""A file of the folder that ``made`` makes of ``SHAPES``."""
SHAPES = {"kind": "shapes", "size": "16x24", "subset": ":20"}
MIXED_SIZES = [(32, 16), (16, 32), (40, 40), (9, 60), (16, 32), (24, 24), (33, 17), (50, 20)]
"""Height x width of pictures; as latents for an area of 24x24 they come to fewer sizes."""


def pictures(folder: Path, sizes: list[tuple[int, int]]) -> Path:
    """Pictures of noise in two class folders, in turn; ``folder``."""
    rng = np.random.default_rng(0)
    for k, (height, width) in enumerate(sizes):
        file = folder / "ab"[k % 2] / f"{k:03d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8)).save(file)
    return folder


def settings(out: Path, vae: Path, data: dict[str, Any] = SHAPES, **more: Any) -> PrepareConfig:
    """20 scenes of 16 x 24 in files of 8, 3 encoded at once, in single precision."""
    base = {
        "out": out,
        "device": "cpu",
        "data": data,
        "vae": {"path": str(vae), "batch_size": 3},
        "shard_images": 8,
        "dtype": "float32",
    }
    for name, value in more.items():
        base[name] = {**base[name], **value} if isinstance(value, dict) else value
    return PrepareConfig.model_validate(base)


def made(out: Path, vae: Path, data: dict[str, Any] = SHAPES, **more: Any) -> Path:
    """The folder that ``settings`` gives."""
    prepare(settings(out, vae, data, **more))
    return out


def content(folder: Path) -> dict[str, bytes]:
    """Every file of a folder but the lock."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def refusal(config: PrepareConfig) -> str:
    """What ``prepare`` says when it refuses."""
    with pytest.raises(UserError) as caught:
        prepare(config)
    return str(caught.value)

"""A tiny model with untrained aligners, for ``eval/lacon.py``, and what it must draw."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from diffgen.config.data import ShapesConfig
from diffgen.config.lacon_sweep import LaconSweepConfig
from diffgen.data.pixels import to_uint8
from diffgen.data.shapes import CLASS_NAMES
from diffgen.data.source import build_images
from diffgen.guidance import CFG, Constraint
from diffgen.lacon.conditions import EDGE, MASK, PALETTE, Condition
from diffgen.lacon.load import load_aligner
from diffgen.lacon.losses import Aligned
from diffgen.models.beside import fingerprint
from diffgen.pipeline import DiffGenPipeline
from diffgen.sampling.batches import set_up
from tests.aligners import fresh
from tests.tiny import build

COUNT, STEPS = 16, 2
QUICK = ["--num-images", str(COUNT), "--device", "cpu", "--no-intervals", "--batch-size", "8"]
FAST = [*QUICK, "--steps", str(STEPS)]


def save_aligner(
    pipe: DiffGenPipeline, condition: Condition, folder: Path, seed: int = 0, until: float = 0.3
) -> None:
    known = {"backbone": fingerprint(pipe.transformer), "until": until, "image_std": 0.3}
    fresh(pipe, condition, seed, **known).save_pretrained(folder / condition.name / "aligner")


def make_run(folder: Path) -> Path:
    """A run of a model of 16 x 16 that knows the classes of shapes, and three aligners."""
    (folder / "config.yaml").write_text("seed: 5\nmodel: {depth: 2}\nsampling: {steps: 3}\n")
    tiny = build(sample_size=(16, 16), num_classes=len(CLASS_NAMES))
    pipe = DiffGenPipeline(tiny.transformer, tiny.scheduler, list(CLASS_NAMES))
    pipe.save_pretrained(folder / "pipeline")
    for condition in (EDGE, MASK, PALETTE):
        save_aligner(pipe, condition, folder / "aligners")
    return folder


def argv(model: Path, out: Path, *more: str) -> list[str]:
    """Two conditions at two scales."""
    asked = ["--conditions", "edge,mask", "--scales", "4,1", "--pictures", "3"]
    return ["lacon-sweep", str(model), *asked, *FAST, "--out", str(out), *more]


def cell(out: Path, name: str) -> dict[str, Any]:
    return json.loads((out / f"cells/{name}-steps2-seed0.json").read_text())


def strip(out: Path, name: str, steps: int = STEPS, seed: int = 0, width: int = 16) -> Tensor:
    """The pictures of a cell, (n, 3, H, width) uint8."""
    with Image.open(out / f"cells/{name}-steps{steps}-seed{seed}.png") as picture:
        pixels = torch.from_numpy(np.array(picture.convert("RGB")))
    return torch.stack(pixels.permute(2, 0, 1).chunk(pixels.shape[1] // width, dim=-1))


def held_out(size: str = "16x16") -> tuple[Tensor, list[int]]:
    """The pictures that conditions are of, after those that FID compares with, and labels."""
    source = build_images(ShapesConfig(size=size), "held_out")
    items = [source[k] for k in range(COUNT, 2 * COUNT)]
    return torch.stack([picture for picture, _ in items]), [label for _, label in items]


def constraint(model: Path, condition: Condition, maps: Tensor, scale: float, **more) -> Constraint:
    """That of a cell, put together by hand."""
    pipe = DiffGenPipeline.from_pretrained(model)
    aligner = load_aligner(model / "aligners" / condition.name, pipe.transformer)
    return Constraint(Aligned(aligner, condition, maps), scale, **more)


def draw(model: Path, *constraints: Constraint, numbers=range(COUNT), **options) -> Tensor:
    """(n, 3, H, W) uint8 straight from the pipeline, by the command's default settings."""
    pipe = DiffGenPipeline.from_pretrained(model)
    pipe.set_progress_bar_config(disable=True)
    set_up(pipe, LaconSweepConfig(source=str(model)).cell(STEPS, 0, {}))
    labels = held_out()[1]
    settings = {"num_inference_steps": STEPS, "guidance": CFG(2.0), "seed": 0, **options}
    x0 = pipe(
        [labels[n % COUNT] for n in numbers],
        image_numbers=list(numbers),
        constraints=constraints,
        output_type="latent",
        **settings,
    ).images
    return to_uint8(x0)

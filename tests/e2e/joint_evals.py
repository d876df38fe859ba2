"""A tiny model with untrained modules beside it, for ``eval/joint.py``, and what it must draw."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from diffgen.config.data import ShapesConfig
from diffgen.config.joint_eval import JointEvalConfig
from diffgen.data.source import build_images
from diffgen.guidance import CFG
from diffgen.joint.adapter import JointAdapter
from diffgen.joint.channels import widened
from diffgen.joint.load import load_adapter
from diffgen.joint.pictures import Given, JointOutput
from diffgen.joint.pipeline import JointPipeline
from diffgen.lacon.conditions import DEPTH, EDGE, Condition
from diffgen.lacon.maps import maps_of
from diffgen.models.beside import fingerprint
from diffgen.pipeline import DiffGenPipeline
from diffgen.sampling.batches import set_up
from tests.e2e.lacon_sweeps import COUNT, STEPS, held_out, make_run, save_aligner

QUICK = ["--num-images", str(COUNT), "--device", "cpu", "--no-intervals", "--steps", str(STEPS)]
FAST = [*QUICK, "--batch-size", "8", "--pictures", "3"]


@torch.no_grad()
def shaken(module: torch.nn.Module, seed: int) -> Any:
    """With every weight a little off, so that it does something."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return module


def save_modules(run: Path, condition: Condition, seed: int | None, place: str = "joint") -> None:
    """An adapter and a widened model, as ``train/joint.py`` leaves them; no seed: fresh ones."""
    model = DiffGenPipeline.from_pretrained(run).transformer
    backbone, folder = fingerprint(model), run / place
    facts = (condition.name, condition.channels, condition.binary)
    adapter, wide = JointAdapter.of(model, *facts, rank=2, backbone=backbone), widened(model)
    if seed is not None:
        adapter, wide = shaken(adapter, seed), shaken(wide, seed)
    adapter.save_pretrained(folder / condition.name / "adapter")
    channels = folder / f"{condition.name}-channels"
    wide.save_pretrained(channels / "channels")
    (channels / "origin.json").write_text(json.dumps({"backbone": backbone}))


def make_joint_run(folder: Path) -> Path:
    """A tiny run with all that the evaluation of depth and edges needs."""
    run = make_run(folder)
    save_aligner(DiffGenPipeline.from_pretrained(run), DEPTH, run / "aligners")
    for seed, condition in enumerate((DEPTH, EDGE)):
        save_modules(run, condition, seed)
    return run


def argv(model: Path, out: Path, *more: str, of: str = "depth,edge") -> list[str]:
    return ["joint-eval", str(model), "--conditions", of, *FAST, "--out", str(out), *more]


def cell(out: Path, name: str) -> dict[str, Any]:
    return json.loads((out / f"cells/{name}-seed0.json").read_text())


def figures(out: Path, name: str, condition: str = "edge") -> dict[str, Any]:
    """What was measured of maps in a cell, means by row and figure."""
    rows = cell(out, name)["measured"]["rows"][condition]
    return {
        row: {what: one and one["mean"] for what, one in found.items()}
        for row, found in rows.items()
    }


def strip(out: Path, name: str) -> list[Tensor]:
    """The three pictures of a cell, (3, 3, 16, 16) uint8, and below them the maps if it has any."""
    with Image.open(out / f"cells/{name}-seed0.png") as picture:
        pixels = torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)
    return [torch.stack(row.chunk(3, dim=-1)) for row in pixels.split(16, dim=1)]


def jointly(model: Path, *conditions: Condition, classes: bool = True, **given) -> JointOutput:
    """All images straight from the pipeline."""
    pipe = DiffGenPipeline.from_pretrained(model)
    set_up(pipe, JointEvalConfig(source=str(model)).cell("base", 0, {}, {}))
    adapters = [load_adapter(model / "joint" / one.name, pipe.transformer) for one in conditions]
    labels = held_out()[1] if classes else [pipe.transformer.num_classes] * COUNT
    settings = {"num_inference_steps": STEPS, "guidance": CFG(2.0), "seed": 0}
    known = {name: Given(maps) for name, maps in given.items()}
    numbers = list(range(COUNT))
    joint = JointPipeline(pipe, adapters)
    return joint(labels, given=known, image_numbers=numbers, **settings)


def exact(condition: Condition) -> Tensor:
    """The maps that are asked for."""
    source = build_images(ShapesConfig(size="16x16"), "held_out")
    return maps_of(source, range(COUNT, 2 * COUNT), condition)

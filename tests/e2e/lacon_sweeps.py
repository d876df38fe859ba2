"""A tiny model with untrained aligners, for ``eval/lacon.py``."""

from pathlib import Path

from diffgen.data.shapes import CLASS_NAMES
from diffgen.lacon.conditions import EDGE, MASK, PALETTE, Condition
from diffgen.lacon.load import fingerprint
from diffgen.pipeline import DiffGenPipeline
from tests.aligners import fresh
from tests.tiny import build

COUNT, STEPS = 16, 2
FAST = ["--num-images", str(COUNT), "--steps", str(STEPS), "--device", "cpu", "--no-intervals"]
FAST += ["--batch-size", "8"]


def save_aligner(pipe: DiffGenPipeline, condition: Condition, folder: Path, seed: int = 0) -> None:
    known = {"backbone": fingerprint(pipe.transformer), "until": 0.3, "image_std": 0.3}
    fresh(pipe, condition, seed, **known).save_pretrained(folder / condition.name / "aligner")


def make_run(folder: Path) -> Path:
    """A run of a model of 16 x 16 that knows the classes of shapes, and three aligners."""
    (folder / "config.yaml").write_text("seed: 5\n")
    tiny = build(sample_size=(16, 16), num_classes=len(CLASS_NAMES))
    pipe = DiffGenPipeline(tiny.transformer, tiny.scheduler, list(CLASS_NAMES))
    pipe.save_pretrained(folder / "pipeline")
    for condition in (EDGE, MASK, PALETTE):
        save_aligner(pipe, condition, folder / "aligners")
    return folder

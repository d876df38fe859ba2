"""The grid of samples drawn beside a training."""

from pathlib import Path

from diffgen.config.sampling import SamplingConfig
from diffgen.data.pixels import to_pil
from diffgen.files import write_file
from diffgen.pipeline import DiffGenPipeline
from diffgen.sampling.batches import draw_batches, labels_in_turn
from diffgen.sampling.sheet import contact_sheet, wrap

COLUMNS = 8


def draw_preview(pipe: DiffGenPipeline, config: SamplingConfig, target: Path) -> None:
    """Save a grid of 32 images, the classes in turn, from the same noise every time."""
    labels = labels_in_turn(4 * COLUMNS, pipe.transformer.config.num_classes)
    height, width = pipe.geometry.trained
    batches = draw_batches(pipe, config, labels, height=height, width=width, seed=0)
    pictures = [picture for batch in batches for picture in to_pil(batch.images)]
    sheet = contact_sheet(wrap("", pictures, COLUMNS))
    write_file(target, sheet.save)

"""Teacher and student from the same noise, row by row."""

from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from diffgen.commands.nitro.distillation import Distillation
from diffgen.data.pixels import to_pil, to_uint8
from diffgen.files import write_file
from diffgen.models.dit import DiT
from diffgen.nitro.pairs import Pairs
from diffgen.pipeline import DiffGenPipeline
from diffgen.sampling.sheet import Row, contact_sheet
from diffgen.training.checkpoint import TrainingState

SHOWN = 16


def draw_sheet(distilling: Distillation, pairs: Pairs, pipe: DiffGenPipeline, target: Path) -> None:
    """Save the first pairs' images, and the student's in every number of steps it learns."""
    x0, labels = pairs.first(SHOWN)
    rows = [Row("teacher", to_pil(pictures(distilling, distilling.pipe, x0)))]
    for count in distilling.config.counts:
        drawn = pipe(
            class_labels=labels,
            num_inference_steps=count,
            seed=pairs.seed,
            image_numbers=list(range(len(labels))),
            output_type="latent",
        ).images
        title = f"{count} step{'s' * (count > 1)}"
        rows.append(Row(title, to_pil(pictures(distilling, pipe, drawn))))
    write_file(target, contact_sheet(rows).save)


def previewer(
    distilling: Distillation, pairs: Pairs, model: DiT, folder: Path
) -> Callable[[TrainingState], None]:
    """Draws a sheet of the averaged weights into ``folder``, unless it is there; by ``model``."""

    def preview(state: TrainingState) -> None:
        target = folder / f"images-{state.seen:09d}.png"
        if not target.exists():
            weights = state.ema.preview.weights
            pipe = distilling.pipeline(model, weights, distilling.config.counts)
            draw_sheet(distilling, pairs, pipe, target)

    return preview


def pictures(distilling: Distillation, pipe: DiffGenPipeline, x0: Tensor) -> Tensor:
    """x0 (B, C, h, w) as the model sees it -> (B, 3, H, W) uint8 on the CPU."""
    pairs = distilling.config.pairs
    images = pipe.decode(x0.to(distilling.device), pairs.decode_batch_size, pairs.decode_tiled)
    return to_uint8(images).expand(-1, 3, -1, -1).cpu()  # grey ones have 1 channel

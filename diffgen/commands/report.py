"""The end of a training: pictures at several sizes, scores, and what to try next."""

import re
import shlex
from pathlib import Path

from diffgen.commands.load import load_pipeline
from diffgen.config.base import parse_size, token_grid
from diffgen.config.data import DataConfig, FolderConfig
from diffgen.config.evaluate import EvaluateConfig
from diffgen.config.hub import HubConfig
from diffgen.config.positions import Positions
from diffgen.config.sampling import SamplingConfig
from diffgen.config.source import beyond_range
from diffgen.config.train import TrainConfig
from diffgen.data.hub import HubStream
from diffgen.data.images import StoredImages
from diffgen.data.latents import Latents
from diffgen.data.pixels import to_pil
from diffgen.data.source import ImageSource
from diffgen.errors import UserError
from diffgen.files import write_file
from diffgen.group import ALONE
from diffgen.pipeline import DiffGenPipeline
from diffgen.sampling.batches import draw_batches, labels_in_turn
from diffgen.sampling.sheet import Row, contact_sheet
from diffgen.training.run_folder import RunFolder


def draw_report(config: TrainConfig, folder: RunFolder, images: ImageSource | HubStream) -> None:
    """Draw ``samples/sizes.png``, score the model, print a table and the next commands."""
    pipe = load_pipeline(folder.path, config.device).pipe
    sizes = config.report.sizes or default_sizes(
        config.data.size, pipe.geometry.multiple, config.model.position
    )
    picture = folder.samples / "sizes.png"
    sheet = contact_sheet([size_row(pipe, config.sampling, size) for size in sizes])
    write_file(picture, sheet.save)
    print(f"\npictures  {picture}")
    if config.report.num_images:
        try:
            score(config, folder, images)
        except UserError as error:  # the training itself went well
            print(f"not scored: {error}")
    print(next_commands(config, sizes, pipe.config.class_names))


def default_sizes(size: str, multiple: int, position: Positions) -> list[str]:
    """The size of training, half as large again, and 1:2 both ways, in multiples allowed.

    Sizes beyond the range of the encoding are left out.
    """
    height, width = parse_size(size)
    half = [multiple * max(1, round(1.5 * side / multiple)) for side in (height, width)]
    pairs = [(height, width), tuple(half), (height, 2 * width), (2 * height, width)]
    grid = token_grid((height, width), multiple)
    sizes = [f"{h}x{w}" for h, w in pairs]
    return [s for s in sizes if not any(beyond_range("size", s, multiple, position, grid))]


def size_row(pipe: DiffGenPipeline, config: SamplingConfig, size: str) -> Row:
    """Eight images of one size, the classes in turn."""
    height, width = parse_size(size)
    labels = labels_in_turn(8, pipe.transformer.config.num_classes)
    batches = draw_batches(pipe, config, labels, height=height, width=width, seed=0)
    return Row(size, [picture for batch in batches for picture in to_pil(batch.images)])


def score(config: TrainConfig, folder: RunFolder, images: ImageSource | HubStream) -> None:
    """FID, precision, recall and class accuracy at the size of training, printed and saved.

    The reference is what the validation has; without any, stored images are their own, as they were
    chosen and read for the training.
    """
    from diffgen.commands.evaluate import evaluate

    held_out = config.validation.pictures(config.data)
    if held_out is None and isinstance(images, Latents):
        raise UserError(
            "prepared latents are no images to compare with; give eval/evaluate.py a --reference"
        )
    if held_out is None and isinstance(images, HubStream):
        raise UserError("a stream has no held-out images; give eval/evaluate.py a --reference")
    stored = images if held_out is None and isinstance(images, StoredImages) else None
    sampling = config.sampling.model_dump()
    evaluate(
        EvaluateConfig(
            source=str(folder.path),
            reference=held_out or data_name(config.data),
            size=config.data.size,
            num_images=config.report.num_images,
            seed=config.seed,
            device=config.device,
            on_error=getattr(config.data, "on_error", "raise"),
            **sampling,
        ),
        group=ALONE,
        real=stored,
    )


def data_name(data: DataConfig) -> str:
    """Where its images come from, as a reference of an evaluation is named."""
    match data:
        case FolderConfig():
            return str(data.path.absolute())  # one called shapes is no drawn one
        case HubConfig():
            return str(Path(data.name).absolute()) if Path(data.name).exists() else data.name
    return data.kind


def next_commands(config: TrainConfig, sizes: list[str], class_names: list[str]) -> str:
    """Commands that make sense now, ready to paste."""
    run, drawn = shlex.quote(str(config.out)), shlex.quote(f"samples/{config.out.name}")
    chosen = "".join(f" --size {size}" for size in sizes[1:3])
    if pasteable(class_names[:2]):
        chosen += f" --classes {shlex.quote(','.join(class_names[:2]))}"
    lines = ["", "next", f"  python sample/generate.py {run}{chosen} --out {drawn}"]
    size = sizes[:2][-1]
    if config.data.kind in ("shapes", "digits"):
        lines += [
            f"  python eval/evaluate.py {run} --reference {config.data.kind} --size {size}",
            "  python train/dit.py --data.kind folder --data.path DIR --out runs/mine",
            "DIR: your own pictures, one sub-folder per class",
        ]
    else:
        lines += [
            f"  python eval/evaluate.py {run} --reference DIR --size {size}",
            "DIR: pictures that were not trained on",
        ]
    return "\n".join(lines)


def pasteable(names: list[str]) -> bool:
    """True for class names that a list of flags takes as they are, not as JSON or an option."""
    plain = all(re.fullmatch(r"\w([\w .'-]*[\w.'-])?", name) for name in names)
    return bool(names) and plain and not {"true", "false", "null"} & set(names)

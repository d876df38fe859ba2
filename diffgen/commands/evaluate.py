"""``eval``: score a model or a folder of images against held-out real images."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Subset
from tqdm import tqdm

from diffgen.config.base import parse_size
from diffgen.config.data import DigitsConfig, FolderConfig, ShapesConfig
from diffgen.config.evaluate import EvaluateConfig, is_image_folder
from diffgen.config.source import resolve
from diffgen.data.pixels import QUANTISATION, to_uint8
from diffgen.data.source import ImageSource, build_images
from diffgen.errors import UserError
from diffgen.files import write_json
from diffgen.metrics.read import Reading, read
from diffgen.metrics.reader import MIN_SIDE, load_reader
from diffgen.metrics.report import compare, conventions, table
from diffgen.pipeline import load_pipeline
from diffgen.sampling.batches import draw_batches, labels_in_turn

Pairs = Iterator[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class RealImages:
    """A reference set and a second real set, disjoint from it, for the floor."""

    reference: "Subset[Any]"
    other: "Subset[Any]"
    class_names: tuple[str, ...]


def evaluate(config: EvaluateConfig) -> None:
    """Draw or read the images, score them, print a table and save the figures as JSON.

    Raises:
        UserError: anything a user can mend; see its message.
    """
    from_folder = is_image_folder(config.source)
    size = config.size or "{}x{}".format(*resolve(config.source).sample_size)
    if min(parse_size(size)) < MIN_SIDE:
        raise UserError(f"size: {size} is too small; the reader needs {MIN_SIDE} pixels a side")
    real = real_images(config.reference, size, config.num_images)
    count = min(config.num_images, len(real.other))
    if count <= config.k or len(real.reference) <= config.k:
        raise UserError(
            f"reference: {config.reference} has too few images for k = {config.k}: "
            f"{len(real.reference)} and {len(real.other)} after halving"
        )
    reader = load_reader("cuda" if config.device != "cpu" and torch.cuda.is_available() else "cpu")
    if from_folder:
        images = folder_reading(config.source, size, count, config.batch_size, reader)
    else:
        images = model_reading(config, size, count, reader)
    count = len(images.features)
    if count <= config.k:
        raise UserError(f"source: {config.source} has {count} images, k = {config.k} needs more")
    reference = read_real(reader, real.reference, real.class_names, config.batch_size)
    other = read_real(reader, real.other, real.class_names, config.batch_size)[:count]
    scores, floor = (compare(reference, reading, config.k) for reading in (images, other))
    counts = {"images": count, "reference": len(real.reference), "floor": len(other.features)}
    print(f"\n{config.source} at {size}: {count} images against {counts['reference']} real ones")
    print(table(scores, floor))
    content = {
        "schema": "diffgen-evaluation/1",
        "scores": asdict(scores),
        "floor": asdict(floor),
        "counts": counts,
        "size": size,
        "labels": "as in the folder" if from_folder else "the classes in turn",
        "settings": config.model_dump(mode="json"),
        "quantisation": QUANTISATION,
        "conventions": conventions(config.k),
        "versions": {name: version(name) for name in ("diffgen", "torch", "diffusers")},
    }
    target = config.out or default_target(config, size)
    write_json(target, content)
    print(f"saved as {target}")


def default_target(config: EvaluateConfig, size: str) -> Path:
    """``evaluation-REFERENCE-SIZE.json`` beside the source, or here for a hub id."""
    folder = Path(config.source) if Path(config.source).is_dir() else Path()
    return folder / f"evaluation-{Path(config.reference).name}-{size}.json"


def real_images(reference: str, size: str, count: int) -> RealImages:
    """Up to ``count`` reference images and as many others.

    shapes: two disjoint parts of the held-out range. digits: the held-out split, and training
    digits. A folder: two halves, drawn by a fixed seed.
    """
    match reference:
        case "shapes":
            held_out = build_images(ShapesConfig(size=size), "held_out")
            if 2 * count > len(held_out):
                raise UserError(f"num_images: at most {len(held_out) // 2} for shapes")
            return _parts(held_out, range(count), held_out, range(count, 2 * count))
        case "digits":
            held_out = build_images(DigitsConfig(size=size), "held_out")
            trained = build_images(DigitsConfig(size=size), "train")
            first, second = min(count, len(held_out)), min(count, len(trained))
            return _parts(held_out, range(first), trained, range(second))
        case _:
            folder = build_images(FolderConfig(path=Path(reference), size=size))
            mixed = _mixed(len(folder))
            half = len(folder) // 2
            return _parts(folder, mixed[:half][:count], folder, mixed[half:][:count])


def _mixed(count: int) -> list[int]:
    return torch.randperm(count, generator=torch.Generator().manual_seed(0)).tolist()


def _parts(
    first: ImageSource, a: Sequence[int], second: ImageSource, b: Sequence[int]
) -> RealImages:
    return RealImages(Subset(first, a), Subset(second, b), first.class_names)  # type: ignore[arg-type]


def read_real(
    reader: Any, images: "Subset[Any]", class_names: tuple[str, ...], batch_size: int
) -> Reading:
    """Read real images, quantised like drawn ones."""
    return read(reader, _real_batches(images, batch_size, "reading real images"), class_names)


def _real_batches(images: "Subset[Any]", batch_size: int, what: str) -> Pairs:
    with tqdm(total=len(images), unit="img", desc=what, leave=False) as bar:
        for first in range(0, len(images), batch_size):
            items = [images[i] for i in range(first, min(first + batch_size, len(images)))]
            pictures = torch.stack([picture for picture, _ in items])
            bar.update(len(items))
            yield to_uint8(pictures), torch.tensor([label for _, label in items])


def folder_reading(source: str, size: str, count: int, batch_size: int, reader: Any) -> Reading:
    """Read ``count`` images of a folder, drawn by a fixed seed: names may be sorted by class."""
    images = build_images(FolderConfig(path=Path(source), size=size))
    chosen: Subset[Any] = Subset(images, _mixed(len(images))[:count])  # type: ignore[arg-type]
    return read(reader, _real_batches(chosen, batch_size, "reading images"), images.class_names)


def model_reading(config: EvaluateConfig, size: str, count: int, reader: Any) -> Reading:
    """Draw ``count`` images, the classes in turn, and read them."""
    source = resolve(config.source)
    pipe = load_pipeline(config.source, config.device, config.dtype, config.vae)
    height, width = parse_size(size)
    labels = labels_in_turn(count, source.num_classes)
    batches = draw_batches(pipe, config, labels, height=height, width=width, seed=config.seed)

    def pairs() -> Pairs:
        with tqdm(total=count, unit="img", desc="drawing") as bar:
            for batch in batches:
                yield batch.images, batch.labels
                bar.update(len(batch.numbers))

    names = source.class_names[: source.num_classes]
    padded = names + ("",) * (source.num_classes - len(names))
    return read(reader, pairs(), padded)

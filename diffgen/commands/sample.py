"""``sample``: PNGs at any size, a contact sheet, and the settings to make them again."""

import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from diffgen.config.base import parse_size
from diffgen.config.sample import SampleConfig
from diffgen.config.sampling import class_indices
from diffgen.config.source import Source, resolve
from diffgen.data.pixels import QUANTISATION, to_pil
from diffgen.files import write_file, write_json
from diffgen.pipeline import DiffGenPipeline, load_pipeline
from diffgen.sampling.batches import draw_batches, labels_in_turn
from diffgen.sampling.sheet import contact_sheet, wrap


def sample(config: SampleConfig) -> None:
    """Draw ``num_images`` at every size into ``config.out``.

    Raises:
        UserError: anything a user can mend; see its message.
    """
    source = resolve(config.source)
    pipe = load_pipeline(config.source, config.device, config.dtype, config.vae)
    chosen = class_indices(config.classes, source)
    labels = labels_in_turn(config.num_images, source.num_classes, chosen)
    sizes = config.size or ["{}x{}".format(*source.sample_size)]
    images: list[dict[str, Any]] = []
    with tqdm(total=len(sizes) * len(labels), unit="img", desc="sampling") as bar:
        for size in sizes:
            images += draw_size(pipe, config, source, labels, size, bar)
    settings = sidecar(config, pipe, source, sizes) | {"images": images}
    write_json(config.out / "settings.json", settings)
    print(f"{len(images)} images and {len(sizes)} contact sheets in {config.out}")


def draw_size(
    pipe: DiffGenPipeline,
    config: SampleConfig,
    source: Source,
    labels: list[int],
    size: str,
    bar: tqdm,
) -> list[dict[str, Any]]:
    """Draw and save the images of one size; returns what to note of each."""
    height, width = parse_size(size)
    notes, pictures = [], []
    batches = draw_batches(pipe, config, labels, height=height, width=width, seed=config.seed)
    for batch in batches:
        for k, label, picture in zip(
            batch.numbers, batch.labels.tolist(), to_pil(batch.images), strict=True
        ):
            name = class_name(source, label)
            file = Path(size) / f"{name}-seed{config.seed}-{k:05d}.png"
            write_file(config.out / file, picture.save)
            note = {"file": str(file), "size": size, "class": name, "label": label}
            notes.append(note | {"seed": config.seed, "number": k})
            pictures.append(picture)
        bar.update(len(batch.numbers))
    sheet = contact_sheet(wrap(size, pictures[:64], 8))
    write_file(config.out / f"sheet-{size}.png", sheet.save)
    return notes


def class_name(source: Source, label: int) -> str:
    """A name fit for a file."""
    if label >= source.num_classes:
        return "unconditional"
    name = source.class_names[label] if label < len(source.class_names) else f"class{label}"
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in name)


def sidecar(
    config: SampleConfig, pipe: DiffGenPipeline, source: Source, sizes: list[str]
) -> dict[str, Any]:
    """Everything needed to draw the same images again."""
    return {
        "schema": "diffgen-samples/1",
        "source": config.source,
        "settings": config.model_dump(mode="json"),
        "sizes": sizes,
        "scheduler": dict(pipe.scheduler.config) | {"class": type(pipe.scheduler).__name__},
        "noise": "image k starts from randn of diffgen.seeding.image_noise(seed, [k])",
        "quantisation": QUANTISATION,
        "device": str(pipe.device),
        "dtype": str(pipe.transformer.dtype),
        "torch_threads": torch.get_num_threads(),
        "versions": {name: version(name) for name in ("diffgen", "torch", "diffusers")},
        "python": platform.python_version(),
        "class_names": list(source.class_names),
    }

"""Real images that a reference file is made of, and what it keeps of them."""

from pathlib import Path

import numpy as np

from diffgen.commands.real_images import Part
from diffgen.config.base import parse_size
from diffgen.config.data import DigitsConfig, FolderConfig, ShapesConfig
from diffgen.config.hub import HubConfig
from diffgen.config.npz import INCEPTION, LAYERS
from diffgen.config.pictures import is_npz
from diffgen.config.reference import ReferenceConfig, is_dataset
from diffgen.data.hub import Hub
from diffgen.data.npz import NpzImages
from diffgen.data.source import build_images
from diffgen.errors import UserError
from diffgen.metrics.extractor import Extractor
from diffgen.metrics.moments import MomentsAccumulator
from diffgen.metrics.read import Extractors
from diffgen.metrics.shards import Shards
from diffgen.metrics.stored import StoredSet, as_adm


def images_of(config: ReferenceConfig, size: str) -> Part:
    """The images of the source: drawn ones in their order, stored ones mixed.

    Raises:
        UserError: there are fewer than were asked for, or than two, or they cannot be read.
    """
    path = Path(config.source)
    match config.source:
        case "shapes":
            every = Part.whole(build_images(ShapesConfig(size=size), "held_out"))
        case "digits":
            every = Part.whole(build_images(DigitsConfig(size=size), "held_out"))
        case _ if is_npz(config.source):
            every = Part.mixed(NpzImages(path, size))
        case _ if is_dataset(config.source):
            rows = HubConfig(name=config.source, size=size, on_error=config.on_error)
            every = Part.mixed(Hub(rows))
        case _:
            folder = FolderConfig(path=path, size=size, on_error=config.on_error)
            every = Part.mixed(build_images(folder))
    part = every.sound(config.num_images or len(every))
    least = config.num_images or 2
    if len(part) < least:
        raise UserError(f"num_images: {config.source} has {len(part)} images, not {least}")
    return part


def moments_of(shards: Shards, extractors: Extractors) -> dict[str, StoredSet]:
    """Moments of what was seen, in the order of the shards, by the titles they are stored under.

    Networks that are the same are stored once.
    """
    running = {
        title: {
            layer: MomentsAccumulator(width)
            for layer, width in extractor.layers.items()
            if layer in LAYERS
        }
        for title, extractor in extractors.items()
    }
    for part in shards.parts():
        for title, layers in running.items():
            for layer, moments in layers.items():
                moments.update(part[f"{title}/{layer}"])
    sets: dict[str, StoredSet] = {}
    for title, extractor in extractors.items():
        found = {layer: moments.compute() for layer, moments in running[title].items()}
        if extractor.facts() not in [stored.facts for stored in sets.values()]:
            sets[_stored_title(title, extractor, sets)] = StoredSet(extractor.facts(), found)
    return sets


def _stored_title(title: str, extractor: Extractor, sets: dict[str, StoredSet]) -> str:
    """ADM's names are for its own resize alone: its evaluator takes what it finds under them."""
    if as_adm(extractor.facts()) and INCEPTION not in sets:
        return INCEPTION
    return f"{INCEPTION} tf1_bilinear" if title == INCEPTION else title


def kept_images(shards: Shards, count: int, size: str) -> dict[str, np.ndarray]:
    """The first ``count`` images as ``arr_0``, with their labels as ``arr_1`` where all have one.

    They are gathered shard by shard, because ten thousand large ones fill much memory.
    """
    if not count:
        return {}
    pixels = np.empty((count, *parse_size(size), 3), np.uint8)
    labels, start = np.empty(count, np.int64), 0
    for part in shards.parts():
        pictures = part["pictures"]
        end = start + len(pictures)
        pixels[start:end] = pictures.permute(0, 2, 3, 1).numpy()
        labels[start:end] = part["labels"][: len(pictures)].numpy()
        if (start := end) == count:
            break
    return {"arr_0": pixels, "arr_1": labels} if labels.min() >= 0 else {"arr_0": pixels}

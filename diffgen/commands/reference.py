"""``reference``: keep what networks see in real images, to score against later."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from diffgen.commands.bench import check_sides, load_extractors
from diffgen.commands.converted_reference import converted
from diffgen.commands.left_out import tell_not_scored
from diffgen.commands.parts import Parts, remove, versions
from diffgen.commands.real_images import Part
from diffgen.config.base import parse_size
from diffgen.config.data import DigitsConfig, FolderConfig, ShapesConfig
from diffgen.config.evaluate import DRAWN
from diffgen.config.hub import HubConfig
from diffgen.config.npz import INCEPTION, LAYERS
from diffgen.config.pictures import is_npz
from diffgen.config.reference import ReferenceConfig, is_dataset
from diffgen.data.hub import Hub
from diffgen.data.npz import NpzImages
from diffgen.data.pixels import QUANTISATION
from diffgen.data.source import build_images
from diffgen.device import chosen_device, on_cpu
from diffgen.errors import UserError
from diffgen.group import Group
from diffgen.metrics.frechet import MomentsAccumulator
from diffgen.metrics.read import Extractors, fill
from diffgen.metrics.shards import Shards
from diffgen.metrics.stored import StoredSet, write_stored


def reference(config: ReferenceConfig) -> None:
    """Write a reference file, out of images or out of another tool's statistics.

    What was seen of the images stays beside the file until it is written, so that the same
    command goes on where it was stopped.

    Raises:
        UserError: anything a user can mend; see its message.
    """
    group = Group.join(cpu=on_cpu(config.device))
    if config.converts:
        with group.together():
            if group.main:
                _convert(config)
    else:
        _take(config, group)
    group.leave()


def _convert(config: ReferenceConfig) -> None:
    sets, count, images = converted(config)
    about = {"num_images": count, "data": None, "quantisation": None, "class_names": []}
    _write(config, sets, config.picture_size(), about, images)


def _take(config: ReferenceConfig, group: Group) -> None:
    with group.together():
        device = chosen_device(config.device)
        size = config.picture_size()
        assert size is not None  # of images there is one
        part = images_of(config, size)
        if group.main:
            tell_not_scored("source", part.left_out)
    with group.together(), group.main_first():
        extractors = load_extractors(config, device)
    kept = min(config.keep_images, len(part))
    with group.together():
        check_sides(extractors, size, drawn=config.source in DRAWN)
        parts = Parts(config.out.with_name(f"{config.out.name}.parts"), extractors)
        facts = {"source": config.source, "kept": kept, **part.facts(size)}
        shards = parts.shards("images", len(part), config.batch_size, facts)
    fill(extractors, part.batches, shards, config.batch_size, group, keep=kept)
    with group.together():
        if group.main:
            about = {
                "num_images": len(part),
                "data": part.settings,
                "quantisation": QUANTISATION,
                "class_names": list(part.class_names),
            }
            sets = moments_of(shards, extractors)
            _write(config, sets, size, about, kept_images(shards, kept, size))
            remove(shards)


def images_of(config: ReferenceConfig, size: str) -> Part:
    """The images of the source: drawn ones in their order, stored ones mixed.

    Raises:
        UserError: there are fewer than asked for or needed, or they cannot be read.
    """
    path = Path(config.source)
    match config.source:
        case "shapes":
            drawn = build_images(ShapesConfig(size=size), "held_out")
            every = Part(drawn, range(len(drawn)))
        case "digits":
            drawn = build_images(DigitsConfig(size=size), "held_out")
            every = Part(drawn, range(len(drawn)))
        case _ if is_npz(config.source):
            every = Part.mixed(NpzImages(path, size))
        case _ if is_dataset(config.source):
            rows = HubConfig(name=config.source, size=size, on_error=config.on_error)
            every = Part.mixed(Hub(rows))
        case _:
            folder = FolderConfig(path=path, size=size, on_error=config.on_error)
            every = Part.mixed(build_images(folder))
    wanted = config.num_images or len(every)
    part = every.sound(wanted)
    if len(part) < max(2, config.num_images or 0):
        raise UserError(
            f"num_images: {config.source} has {len(part)} images, "
            f"{config.num_images or 'statistics need 2'}"
            f"{' were asked for' if config.num_images else ''}"
        )
    return part


def moments_of(shards: Shards, extractors: Extractors) -> dict[str, StoredSet]:
    """Moments of what was seen, shard by shard, by the titles they are stored under.

    The first Inception is stored as ADM's files have it; networks that are the same, once.
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
        known = [stored.facts for stored in sets.values()]
        if extractor.facts() not in known:
            first = extractor.name == INCEPTION and INCEPTION not in sets
            sets[INCEPTION if first else title] = StoredSet(extractor.facts(), found)
    return sets

"""``reference``: keep what networks see in real images, to score against later."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from diffgen.commands.bench import check_sides, load_extractors
from diffgen.commands.converted_reference import converted
from diffgen.commands.left_out import tell_not_scored
from diffgen.commands.parts import Parts, held, versions
from diffgen.commands.real_images import Part
from diffgen.commands.reference_images import images_of, kept_images, moments_of
from diffgen.config.evaluate import DRAWN
from diffgen.config.reference import ReferenceConfig
from diffgen.data.pixels import QUANTISATION
from diffgen.device import chosen_device, on_cpu
from diffgen.group import Group
from diffgen.metrics.read import fill
from diffgen.metrics.stored import StoredSet, write_stored


def reference(config: ReferenceConfig) -> None:
    """Write a reference file, out of images or out of another tool's statistics.

    What was seen of the images stays beside the file until that is written, so that the same
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
        folder = config.out.with_name(f"{config.out.name}.parts")
        with held(folder, group):
            _take(config, group, folder)
    group.leave()


def _convert(config: ReferenceConfig) -> None:
    sets, count, images = converted(config)
    about: dict[str, Any] = {"num_images": count, "data": None}
    about |= {"quantisation": None, "class_names": []}
    _write(config, config.converted_size(), about, sets, images)


def _take(config: ReferenceConfig, group: Group, folder: Path) -> None:
    """See the images; ``folder`` keeps what was seen so far."""
    with group.together():
        device = chosen_device(config.device)
        size = config.picture_size()
        part = images_of(config, size)
        if group.main:
            tell_not_scored("source", part.left_out)
    with group.together(), group.main_first():
        extractors = load_extractors(config, device)
    kept = min(config.keep_images, len(part))
    with group.together():
        check_sides(extractors, size, drawn=config.source in DRAWN)
        parts = Parts(folder, extractors)
        facts = {"source": _place(config), "kept": kept, **part.facts(size)}
        shards = parts.shards("images", len(part), config.batch_size, facts)
    fill(extractors, part.batches, shards, config.batch_size, group, keep=kept)
    with group.together():
        if group.main:
            sets = moments_of(shards, extractors)
            _write(config, size, _about(part), sets, kept_images(shards, kept, size))


def _about(part: Part) -> dict[str, Any]:
    return {
        "num_images": len(part),
        "data": part.settings,
        "quantisation": QUANTISATION,
        "class_names": list(part.class_names),
    }


def _place(config: ReferenceConfig) -> str:
    """The source in words that hold wherever one stands."""
    drawn = f"{config.source}, held-out split"
    return drawn if config.source in DRAWN else str(Path(config.source).resolve())


def _write(
    config: ReferenceConfig,
    size: str | None,
    about: Mapping[str, Any],
    sets: Mapping[str, StoredSet],
    images: Mapping[str, np.ndarray],
) -> None:
    kept = len(images.get("arr_0", ()))
    header = {
        "source": _place(config),
        "size": size,
        "kept_images": kept,
        "profile": config.profile,
        **about,
        "versions": versions(),
    }
    write_stored(config.out, sets, header, images)
    count = about["num_images"]
    behind = "an unstated number of images" if count is None else f"{count:,} images"
    for title, found in sets.items():
        for layer, moments in found.moments.items():
            print(f"{title}: mean and covariance of {len(moments.mean):,} {layer} of {behind}")
            if count is not None and count <= len(moments.mean):
                print("  too few images for a covariance of full rank: distances to it are biased")
    print(f"{kept:,} images kept; saved as {config.out}")

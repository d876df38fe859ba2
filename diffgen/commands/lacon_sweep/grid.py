"""The picture grid of a sweep: a block a condition, from held-out pictures to images."""

from collections.abc import Iterator, Mapping

import torch
from PIL import Image
from torch import Tensor

from diffgen.commands.cells import Cell
from diffgen.commands.lacon_sweep.aligners import Stored
from diffgen.commands.lacon_sweep.wanted import wanted_pictures
from diffgen.commands.real_sets import open_reference
from diffgen.config.base import parse_size
from diffgen.config.lacon_sweep import LaconSweepConfig
from diffgen.data.pixels import to_pil, to_uint8
from diffgen.lacon.conditions import Condition
from diffgen.sampling.sheet import Row, enlarged


def rows(
    config: LaconSweepConfig,
    stored: Mapping[str, Stored],
    cells: Mapping[tuple[str, int, float, int], Cell],
    size: str,
) -> Iterator[Row]:
    """Of each condition the first held-out pictures, their maps, and the images of each scale.

    The images are of the first number of steps and the first seed.
    """
    steps, seed, side = config.steps[0], config.seeds[0], min(parse_size(size))
    free = config.cell(steps, seed, config.conditions)
    wanted = wanted_pictures(open_reference(free, size), config.reference, config.num_images)
    numbers = range(min(config.pictures, len(wanted.part)))
    for name, (condition, _, _) in stored.items():
        pictures = to_uint8(wanted.pictures(numbers))
        maps = as_pictures(condition, wanted.maps(condition, numbers))
        for title, images in (("held-out pictures", pictures), ("their maps", maps)):
            yield Row(f"{name}: {title}", [enlarged(strip(images), side)])
        for scale in (0.0, *config.columns()):
            with Image.open(cells[name, steps, scale, seed].picture) as image:
                drawn = enlarged(image.convert("RGB"), side)
            yield Row(f"{name}: {f'scale {scale:g}' if scale else 'unguided'}", [drawn])


def as_pictures(condition: Condition, maps: Tensor) -> Tensor:
    """Maps (B, channels, H, W) as (B, 3, H, W) uint8."""
    return to_uint8(maps * 2 - 1 if condition.binary else maps).expand(-1, 3, -1, -1)


def strip(pictures: Tensor) -> Image.Image:
    """(B, 3, H, W) uint8 side by side."""
    return to_pil(torch.cat(list(pictures), dim=-1)[None])[0]

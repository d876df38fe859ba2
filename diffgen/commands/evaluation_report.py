"""The file that ``--report`` names: what was scored, as a page or as tables."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor

from diffgen.commands.real_images import Part
from diffgen.files import write_file
from diffgen.metrics.nearest import nearest
from diffgen.metrics.read import Reading
from diffgen.page.document import Grid, Nearest, Pair, document
from diffgen.page.markdown import markdown
from diffgen.page.pictures import picture

GRID_SIDE, PAIR_SIDE = 96, 128
"""Shorter sides of pictures [pixels]."""
NUM_PAIRS = 16


def write_report(
    target: Path,
    content: dict[str, Any],
    images: Reading,
    reference: Reading | None,
    real: Part | None,
) -> None:
    """Write ``target``, Markdown for .md and else HTML.

    Args:
        target: the file.
        content: what the JSON holds.
        images: what was scored.
        reference: against what; None: there are only its moments.
        real: the images of ``reference``, in its order.

    Raises:
        UserError: it cannot be written, or a real image cannot be read again.
    """
    if target.suffix == ".md":
        text = markdown(content)
    else:
        sets = {"The first images": images, "The first real images": reference}
        grids = [_grid(title, one) for title, one in sets.items() if one is not None]
        title = content["extractor"]["title"]
        pairs = list(_pairs(title, images, reference, real)) if reference and real else []
        text = document(content, grids, Nearest(title, pairs) if pairs else None)
    write_file(target, lambda path: path.write_text(text, encoding="utf-8"))


def _grid(title: str, reading: Reading) -> Grid:
    pictures = [
        picture(image, _named(f"image {number}", reading, number), GRID_SIDE)
        for number, image in enumerate(reading.pictures)
    ]
    return Grid(title, pictures)


def _pairs(title: str, images: Reading, reference: Reading, real: Part) -> Iterator[Pair]:
    """The first images, and their nearest real ones by the features of a network."""
    fake, known = (one.layers[title]["features"] for one in (images, reference))
    shown = images.pictures[:NUM_PAIRS]
    distances, rows = nearest(fake[: len(shown)], known, 2)
    for number, image in enumerate(shown):
        row = int(rows[number, 0])
        yield Pair(
            picture(image, _named(f"image {number}", images, number), PAIR_SIDE),
            picture(_image(real, row), _named(f"real image {row}", reference, row), PAIR_SIDE),
            *distances[number].tolist(),
        )


def _image(part: Part, place: int) -> Tensor:
    """(3, H, W) uint8."""
    ((_, images, _),) = part.batches([range(place, place + 1)])
    return images[0]


def _named(words: str, reading: Reading, number: int) -> str:
    name = reading.class_name(int(reading.labels[number]))
    return f"{words}, {name}"

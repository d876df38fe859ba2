"""Contact sheets: rows of pictures with a title each."""

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont, ImageOps

GAP = 4
SHOWN = 64
"""Pictures of a run on its sheet, at most."""
SHORTEST, LONGEST = 64, 256
"""Between these the shorter sides of ``enlarged`` pictures lie, roughly [pixels]."""
PAPER, INK = (255, 255, 255), (40, 40, 40)


@dataclass(frozen=True)
class Row:
    """Pictures side by side under a title; they may differ in size."""

    title: str
    images: list[Image.Image]


def contact_sheet(rows: list[Row], scale: int | None = None) -> Image.Image:
    """Draw ``rows`` below each other.

    ``scale``: whole factor every picture is enlarged by, without smoothing; None: one that
    brings small pictures to about 96 pixels.
    """
    if scale is None:
        shortest = min(min(image.size) for row in rows for image in row.images)
        scale = max(1, round(96 / shortest))
    font = ImageFont.load_default(14)
    strips = [_strip(row, scale, font) for row in rows]
    width = max(strip.width for strip in strips)
    sheet = Image.new("RGB", (width, sum(strip.height for strip in strips)), PAPER)
    top = 0
    for strip in strips:
        sheet.paste(strip, (0, top))
        top += strip.height
    return sheet


def _strip(row: Row, scale: int, font: ImageFont.ImageFont | ImageFont.FreeTypeFont) -> Image.Image:
    pictures = [
        image.convert("RGB").resize(
            (image.width * scale, image.height * scale), Image.Resampling.NEAREST
        )
        for image in row.images
    ]
    title = 22 if row.title else 0
    width = max(sum(p.width + GAP for p in pictures) + GAP, int(font.getlength(row.title)) + 8)
    strip = Image.new("RGB", (width, title + max(p.height for p in pictures) + GAP), PAPER)
    ImageDraw.Draw(strip).text((GAP, 3), row.title, INK, font)
    left = GAP
    for picture in pictures:
        strip.paste(picture, (left, title))
        left += picture.width + GAP
    return strip


def wrap(
    title: str, images: list[Image.Image], columns: int, above: Sequence[Row] = ()
) -> list[Row]:
    """Cut many pictures into rows of ``columns``; the first row bears the title.

    ``above``: rows that explain the pictures, image k being explained by picture k modulo their
    number. One of a single picture comes first, once; of the others each row of images has its part
    above it.
    """
    rows = [row for row in above if len(row.images) == 1]
    turning = [row for row in above if len(row.images) > 1]
    for start in range(0, len(images), columns):
        numbers = range(start, min(start + columns, len(images)))
        for row in turning:
            parts = [row.images[k % len(row.images)] for k in numbers]
            rows.append(Row("" if start else row.title, parts))
        rows.append(Row("" if start else title, images[start : start + columns]))
    return rows


def enlarged(strip: Image.Image, shorter: int) -> Image.Image:
    """Pictures whose shorter side is ``shorter`` enlarged in whole pixels, or reduced."""
    if shorter > LONGEST:
        return ImageOps.scale(strip, LONGEST / shorter)
    return ImageOps.scale(strip, max(1, round(SHORTEST / shorter)), Image.Resampling.NEAREST)

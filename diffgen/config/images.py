"""What every source of stored images shares: how they are read and fitted to the training size."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from diffgen.config.base import Section, Size

PILLOW_LIMIT = 178_956_970
"""Pixels beyond which Pillow refuses an image, whatever is configured."""


def parse_colour(text: str) -> tuple[int, int, int]:
    """``"white"`` or ``"#8080ff"`` -> red, green and blue in [0, 255].

    Raises:
        ValueError: anything else, and colours that are themselves transparent.
    """
    from PIL import ImageColor  # light, but a run on drawn images needs none of it

    try:
        colour = ImageColor.getrgb(text)
    except ValueError:
        colour = (0, 0, 0, 0)
    if len(colour) != 3:
        raise ValueError("must be an opaque colour, for example white or #8080ff")
    return colour


def _known_colour(text: str) -> str:
    parse_colour(text)
    return text


Crop = Literal["center", "random", "none", "mixed"]


class FittedConfig(Section):
    """How pictures are fitted to the size of training."""

    size: Size = "32x32"
    """Height x width of a training image, or its area where images keep their shape [pixels]."""
    crop: Crop = "center"
    """Fit an image to the size by ADM's centre crop (a drawn one is drawn at it), by a random
    resized crop, or none: keep its shape and shrink it, if need be, to the area of the size; mixed:
    none, but half of the images larger than the size are cropped to it (FiTv2)."""
    crop_scale: float = Field(default=0.6, gt=0, le=1)
    """Smallest share of the image's area a random crop keeps [0 to 1]; only for crop random."""

    crop_share: float = Field(default=1.0, gt=0, le=1)
    """Share of images that crop random crops at random, the others from the centre [0 to 1]."""

    def problems(self) -> Iterator[str]:
        """Yield what is said of crops where there are none."""
        if self.crop_share != 1 and self.crop != "random":
            yield f"data.crop_share: {self.crop_share:g} has no effect with data.crop {self.crop}"
        smallest = type(self).model_fields["crop_scale"].default
        if self.crop_scale != smallest and self.crop != "random":
            yield f"data.crop_scale: {self.crop_scale:g} has no effect with data.crop {self.crop}"

    @property
    def mixed_sizes(self) -> bool:
        """True where images of a batch may differ in size."""
        return self.crop in ("none", "mixed")


class StoredImagesConfig(FittedConfig):
    """The fields of every source of stored images."""

    flip: bool = True
    """Mirror half of the training images left to right."""
    background: Annotated[str, AfterValidator(_known_colour)] = "white"
    """Colour that shows through transparent images: a name or #rrggbb."""
    on_error: Literal["raise", "skip"] = "raise"
    """A damaged image stops the run, or is named, counted and skipped."""
    max_pixels: int = Field(default=89_478_485, ge=1, le=PILLOW_LIMIT)
    """An image of more pixels counts as damaged, before it is decoded [pixels]."""

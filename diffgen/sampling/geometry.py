"""Sizes: of images in pixels, and of what a model sees of them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Geometry:
    """What a model sees of an image: its pixels, or its latents on a coarser grid."""

    channels: int
    patch: int
    """Side of a token [the model's pixels]."""
    seen: tuple[int, int]
    """Height and width the model was trained at [the model's pixels]."""
    factor: int = 1
    """Side of the square of image pixels behind one of the model's [pixels]; 1: it sees pixels."""

    @property
    def trained(self) -> tuple[int, int]:
        """Height and width of the training images [pixels]."""
        return self.seen[0] * self.factor, self.seen[1] * self.factor

    @property
    def multiple(self) -> int:
        """What must divide the height and width of an image [pixels]."""
        return self.factor * self.patch

    def shape(self, height: int | None = None, width: int | None = None) -> tuple[int, int, int]:
        """(C, h, w) the model sees of an image of ``height`` x ``width`` pixels; None: as trained.

        Raises:
            ValueError: a side is no positive multiple of ``multiple``.
        """
        sides = {
            "height": self.trained[0] if height is None else height,
            "width": self.trained[1] if width is None else width,
        }
        why = f"the patch {self.patch}"
        if self.factor > 1:
            why = f"{self.multiple}, the VAE's factor {self.factor} times {why}"
        for name, side in sides.items():
            if side < 1 or side % self.multiple:
                raise ValueError(f"{name} {side} is not a positive multiple of {why}")
        return self.channels, sides["height"] // self.factor, sides["width"] // self.factor

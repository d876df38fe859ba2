"""What goes into a joint drawing and what comes out of it: pictures and maps."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from diffgen.config.joint_given import IMAGE
from diffgen.data.pixels import to_pil, to_uint8
from diffgen.joint.course import DRAWN, GIVEN, Course
from diffgen.lacon.conditions import Condition

__all__ = ["IMAGE", "Given", "JointOutput", "as_pil", "common_size", "wholly"]

BEYOND = 1.5
"""What images may reach on either side; drawn ones are in about [-1, 1]."""


@dataclass(frozen=True)
class Given:
    """What is known of a branch.

    Raises:
        ValueError: a part is known of what stays whole, or a shape or dtype is none of those below.
    """

    maps: Tensor
    """(B or 1, channels, H, W) of floating point: images in [-1, 1], or maps of a condition in its
    own range."""
    course: Course | None = None
    """The part of the way that is walked, in shares of the steps; (0.3, 1) draws it anew over the
    last 0.7 of them, without a time shift from noise level 0.7 of a flow on, which refines rough
    maps and edits images; of (0, 1) nothing but ``known`` is left. None: it stays as it is, or with
    ``known`` is drawn from noise."""
    known: Tensor | None = None
    """(B or 1, 1, H, W), 1 where it is kept, 0 where it is drawn anew; None: as ``course`` says."""

    def __post_init__(self) -> None:
        for part, x in (("maps", self.maps), ("known", self.known)):
            if not isinstance(x, Tensor) and (part, x) != ("known", None):
                raise ValueError(f"{part} must be a tensor, not a {type(x).__name__}")
        if self.maps.ndim != 4 or not self.maps.numel():
            raise ValueError(f"maps must be (B, channels, H, W), not {tuple(self.maps.shape)}")
        if not self.maps.is_floating_point():
            raise ValueError(f"maps must be of floating point, not {self.maps.dtype}")
        if self.known is None:
            return
        if self.known.ndim != 4 or self.known.shape[1:] != (1, *self.size):
            due = f"(B, 1, {self.size[0]}, {self.size[1]})"
            raise ValueError(f"known must be {due}, as its maps, not {tuple(self.known.shape)}")
        if self.whole:
            raise ValueError("known: a picture that stays as it is, is known everywhere")

    @property
    def way(self) -> Course:
        """The course, chosen."""
        return self.course or (GIVEN if self.known is None else DRAWN)

    @property
    def whole(self) -> bool:
        """Whether it stays as it is."""
        return self.way.start == 1

    @property
    def size(self) -> tuple[int, int]:
        """Height and width [pixels]."""
        return self.maps.shape[-2], self.maps.shape[-1]

    @property
    def count(self) -> int:
        """Number of pictures, or of known parts, whichever are more."""
        return max(len(self.maps), 1 if self.known is None else len(self.known))

    def check_kind(self, name: str, condition: Condition | None) -> None:
        """Raise ValueError unless it is maps of ``condition``, or images (None), in their range."""
        channels = 3 if condition is None else condition.channels
        if self.maps.shape[1] != channels:
            raise ValueError(f"given: {name} has {self.maps.shape[1]} channels, not {channels}")
        low, high = (float(x) for x in self.maps.aminmax())
        if condition is None:
            fits, due = low >= -BEYOND and high <= BEYOND, "about [-1, 1]"
        else:
            fits, due = condition.spans(self.maps), f"[{condition.lowest}, 1]"
        if not fits:
            raise ValueError(f"given: {name} must lie in {due}, not {low:.3g} to {high:.3g}")

    def check_count(self, name: str, count: int) -> None:
        """Raise ValueError unless it is one for all ``count`` images, or one each."""
        for what, x in (("maps", self.maps), ("known", self.known)):
            if x is not None and len(x) not in (1, count):
                raise ValueError(f"given: {len(x)} {what} of {name} for {count} images")

    def kept(self, own: tuple[int, int]) -> Tensor | None:
        """``known`` at the model's ``own`` size (h, w): 1 where all pixels behind one are known."""
        return None if self.known is None else wholly(self.known.float(), own)

    def restored(self, drawn: Tensor, own: tuple[int, int]) -> Tensor:
        """``drawn`` (B, channels, H, W) with what was kept at the model's ``own`` size as given.

        A model of pixels has left it there up to rounding; a VAE has not.
        """
        kept = self.kept(own)
        if kept is None:
            return drawn
        places = F.interpolate(kept.to(drawn), self.size, mode="nearest-exact")
        return torch.where(places > 0.5, self.maps.to(drawn), drawn)


@dataclass(frozen=True)
class JointOutput:
    """What was drawn, or given."""

    images: Tensor
    """(B, 3, H, W) fp32 in about [-1, 1]."""
    conditions: dict[str, Tensor] = field(default_factory=dict)
    """By name, (B, channels, H, W) fp32 in the condition's own range."""
    kinds: Mapping[str, Condition] = field(default_factory=dict)
    """The conditions themselves."""

    def pil(self, name: str = IMAGE) -> list[Image.Image]:
        """The images, or the maps of a condition, as 8-bit pictures; maps of 1 channel are grey.

        Raises:
            ValueError: there are no such maps.
        """
        if name == IMAGE:
            return as_pil(self.images)
        if name not in self.conditions:
            there = ", ".join((IMAGE, *self.conditions))
            raise ValueError(f"name: {name!r} is not one of {there}")
        return as_pil(self.conditions[name], self.kinds[name])


def as_pil(maps: Tensor, condition: Condition | None = None) -> list[Image.Image]:
    """(B, channels, H, W), maps of ``condition`` or images (None), as B 8-bit pictures."""
    binary = condition is not None and condition.binary
    return to_pil(to_uint8(2 * maps - 1 if binary else maps))


def wholly(known: Tensor, size: tuple[int, int]) -> Tensor:
    """Minima of ``known`` (B, 1, H, W) over the pixels behind each of ``size``: (B, 1, *size)."""
    return -F.adaptive_max_pool2d(-known, size)


def common_size(
    given: Mapping[str, Given], height: int | None, width: int | None
) -> tuple[int | None, int | None]:
    """Height and width of everything drawn; None: as trained.

    Raises:
        ValueError: what is given differs in size, from each other or from what is asked for.
    """
    sizes = {name: one.size for name, one in given.items()}
    if not sizes:
        return height, width
    first, wanted = next(iter(sizes.items()))
    for name, size in sizes.items():
        if size != wanted:
            raise ValueError(
                f"given: {name} is {size[0]}x{size[1]}, but {first} {wanted[0]}x{wanted[1]} "
                "(height x width)"
            )
    for name, asked, side in zip(("height", "width"), (height, width), wanted, strict=True):
        if asked not in (None, side):
            raise ValueError(f"{name} {asked} is not that of what is given, {side}")
    return wanted

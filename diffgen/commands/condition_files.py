"""Condition files as tensors: maps, pictures, and pictures with holes, at the size of samples."""

import hashlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from diffgen.config.condition_sizes import MAX_PIXELS
from diffgen.data.decode import Colour, Damaged, decode
from diffgen.data.pixels import NOTICED, from_pil, from_uint8
from diffgen.errors import UserError
from diffgen.lacon.conditions import EDGE, Condition

BLACK, WHITE = (0, 0, 0), (255, 255, 255)


@dataclass(frozen=True)
class ConditionFile:
    """An image file of a constraint or of what is given, read once."""

    said: str
    """What complaints call it: "constraint: edge=sketch.png"."""
    data: bytes
    finding: str = "--constraint-from picture"
    """Option with which a map is found in a picture instead."""

    @classmethod
    def read(cls, path: Path, field: str, finding: str = finding) -> "ConditionFile":
        """Read ``path``, which complaints call ``field`` and the path.

        Raises:
            UserError: it cannot be read.
        """
        said = f"{field}{path}"
        try:
            return cls(said, path.read_bytes(), finding)
        except OSError as error:
            raise UserError(f"{said} is not a readable image: {error.strerror}") from None

    @property
    def sha256(self) -> str:
        """Digest of the file."""
        return hashlib.sha256(self.data).hexdigest()

    def image(self, background: Colour) -> Image.Image:
        """It as RGB, upright, transparent parts on ``background``.

        Raises:
            UserError: it is damaged.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # MAX_PIXELS decides
            try:
                return decode(self.data, background, MAX_PIXELS)
            except Damaged as damage:
                raise UserError(f"{self.said} is not a readable image: {damage}") from None


def stored_map(file: ConditionFile, condition: Condition) -> Tensor:
    """The map that a file holds.

    Black is 0 of a binary map and -1 of another, white 1; of depth, near and far. Transparent parts
    are black in a binary map, else white.

    Returns:
        (1, channels, H, W) fp32 at the file's own size.

    Raises:
        UserError: it is damaged, coloured where it must be grey, shows nothing on transparent
            ground, or has black edges on white.
    """
    background = BLACK if condition.binary else WHITE
    if condition.channels == 1:
        found = grey_levels(file, background, condition)
    else:
        found = from_pil(file.image(background))
    if not condition.binary:
        return from_uint8(found)[None]
    if not found.any() and from_pil(file.image(WHITE)).any():
        raise UserError(
            f"{file.said} shows nothing: its transparent parts count as black; draw in white"
        )
    maps = found[None] / 255
    if condition is EDGE and float(maps.mean()) > 0.5:
        raise UserError(f"{file.said} is mostly white, but edges are white on black; invert it")
    return maps


def grey_levels(
    file: ConditionFile, background: Colour, condition: Condition | None = None
) -> Tensor:
    """A grey picture: (1, H, W) uint8.

    Raises:
        UserError: it is damaged or coloured; ``condition`` tells what could be found in it.
    """
    picture = file.image(background)
    channels = from_pil(picture).short()
    apart = int((channels.amax(dim=0) - channels.amin(dim=0)).max())
    if apart > NOTICED:
        found = condition is not None and condition.find is not None
        other = f"; {file.finding} finds the map in a picture" if found else ""
        raise UserError(
            f"{file.said} is a colour image (its channels differ by up to {apart} levels), but a "
            f"grey one is needed{other}"
        )
    return from_pil(picture.convert("L"))[:1]


def fitted(
    maps: Tensor,
    shrink: Callable[[Tensor, tuple[int, int]], Tensor],
    size: tuple[int, int],
    own: tuple[int, int],
) -> Tensor:
    """Maps (1, C, H, W) for samples of ``size`` pixels: (1, C, h, w), the model's ``own`` size.

    A larger map is made smaller by ``shrink``, a condition's own, which keeps thin edges; a smaller
    one is enlarged first: greys smoothly, colours as squares, as the cells of a palette are.
    """
    if maps.shape[-2] * maps.shape[-1] < size[0] * size[1]:
        maps = F.interpolate(maps, size, mode="bilinear" if maps.shape[1] == 1 else "nearest-exact")
    return shrink(maps, own)


def picture(file: ConditionFile, size: tuple[int, int]) -> Tensor:
    """(1, 3, H, W) in [-1, 1] at ``size``; transparent parts are white."""
    image = file.image(WHITE)
    if (image.height, image.width) != size:
        image = image.resize(size[::-1], Image.Resampling.LANCZOS)
    return from_uint8(from_pil(image))[None]


def cutout(file: ConditionFile, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """A picture with holes at ``size``: (1, 3, H, W) in [-1, 1], and (1, 1, H, W), 1 where known.

    Only opaque pixels are known, and after resizing those that no other had a part in. Transparent
    parts show mid-grey.

    Raises:
        UserError: it has no transparent part, or no opaque one.
    """
    on_black, on_white = (from_pil(file.image(c)).float() for c in (BLACK, WHITE))
    known = (on_black == on_white).all(dim=0, keepdim=True).float()
    if known.all() or not known.any():
        raise UserError(
            f"{file.said} is {'opaque' if known.any() else 'transparent'} everywhere; its opaque "
            "part is kept, and its transparent part drawn anew"
        )
    both = torch.cat([(on_black + on_white) / 255 - 1, known])[None]
    if both.shape[-2:] != size:
        smaller = both.shape[-2] * both.shape[-1] > size[0] * size[1]
        both = F.interpolate(both, size, mode="area" if smaller else "bilinear")
    return both[:, :3], (both[:, 3:] > 1 - 1e-5).float()

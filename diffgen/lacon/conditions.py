"""What a picture can be steered by: maps that are computed from pictures, or that the data has.

A condition is a function from pictures to maps and three facts about these maps. A new one is one
more value of ``Condition``:

    sketch = Condition("sketch", channels=1, binary=True, find=my_sketches, fidelity=EDGE_F1)
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from diffgen.errors import UserError
from diffgen.lacon.edges import canny_edges
from diffgen.lacon.fidelity import Fidelity, colour_error, edge_f1, iou, mean_error
from diffgen.lacon.saliency import salient_mask
from diffgen.lacon.strokes import colour_strokes, palette_of

EDGE_F1 = Fidelity("edge_f1", True, edge_f1)
IOU = Fidelity("iou", True, iou)
COLOUR_ERROR = Fidelity("colour_error", False, colour_error)
DEPTH_ERROR = Fidelity("depth_error", False, mean_error)
SLACK = 1e-3
"""By how much rounding may take a map's values out of their range."""


def averaged(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps at the model's own size (h, w): means over the pixels behind one of the model's."""
    return maps if maps.shape[-2:] == size else F.adaptive_avg_pool2d(maps, size)


def strongest(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps at the model's own size: maxima, so that thin lines stay."""
    return maps if maps.shape[-2:] == size else F.adaptive_max_pool2d(maps, size)


def unchanged(maps: Tensor) -> Tensor:
    """The data's own maps, as they are."""
    return maps


@dataclass(frozen=True)
class Condition:
    """A kind of map, and how it is found, aimed at and compared.

    Raises:
        ValueError: a name that is none of a folder, or a number of channels that is no picture's.
    """

    name: str
    """In commands and folders: letters, digits, _ and -."""
    channels: int
    """Of a map: 1, or the 3 of colours."""
    binary: bool
    """Maps lie in [0, 1] and are predicted as logits; else in [-1, 1] and predicted as they are."""
    find: Callable[[Tensor], Tensor] | None
    """Pictures (B, 3, H, W) fp32 in [-1, 1] -> maps (B, channels, H, W) fp32, a picture's of itself
    alone. None: only data that brings such maps has it."""
    fidelity: Fidelity
    """How found and wanted maps are compared."""
    stored: str | None = None
    """Name of the data's own maps, which are taken where there are any (``Shapes.maps``)."""
    from_stored: Callable[[Tensor], Tensor] = unchanged
    """The data's own maps (B, 1 or 3, H, W) -> maps as above."""
    shrink: Callable[[Tensor, tuple[int, int]], Tensor] = averaged
    """Maps to the model's own size, that of its latents."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[\w-]+", self.name):
            raise ValueError(f"name {self.name!r} must consist of letters, digits, _ and -")
        if self.channels not in (1, 3):
            raise ValueError(f"channels of {self.name} must be 1 or 3, not {self.channels}")

    @property
    def lowest(self) -> int:
        """The least value of a map; the greatest is 1."""
        return 0 if self.binary else -1

    def spans(self, maps: Tensor) -> bool:
        """Whether all values of ``maps`` lie in the range stated, which NaN does not."""
        low, high = maps.aminmax()
        return bool((low >= self.lowest - SLACK) & (high <= 1 + SLACK))

    def of(self, pictures: Tensor) -> Tensor:
        """The maps of ``pictures`` (B, 3, H, W) in [-1, 1].

        Raises:
            ValueError: these are no such pictures.
            UserError: it cannot be found in pictures, or ``find`` gives what is no such map.
        """
        if pictures.ndim != 4 or pictures.shape[1] != 3 or pictures.abs().max() > 1.5:
            raise ValueError(
                f"pictures are to be (B, 3, H, W) in about [-1, 1], not {tuple(pictures.shape)} "
                f"with values up to {pictures.abs().max():.3g}"
            )
        if self.find is None:
            raise UserError(
                f"condition: {self.name} cannot be found in pictures; it needs data that brings it"
            )
        due = (len(pictures), self.channels, *pictures.shape[2:])
        try:
            found = self.find(pictures)
        except Exception as error:  # of a user's own code
            raise UserError(
                f"condition: {self.name} cannot be found: {type(error).__name__}: {error}"
            ) from error
        if not isinstance(found, Tensor):
            came = f"a {type(found).__name__}"
        elif found.shape != due or not found.is_floating_point():
            came = f"{tuple(found.shape)} of {found.dtype}"
        elif not self.spans(found):
            came = f"values from {found.min():.3g} to {found.max():.3g}"
        else:
            return found
        raise UserError(
            f"condition: {self.name} is to be found as maps {due} of floating point in "
            f"[{self.lowest}, 1], but there came {came}"
        )

    def loss(self, predicted: Tensor, wanted: Tensor, weight: Tensor | None = None) -> Tensor:
        """How far ``predicted`` is from ``wanted``, both (B, channels, h, w): (B,), a sum.

        Binary cross-entropy of logits, or half the squared error; ``weight``, broadcastable, tells
        how much each place counts.
        """
        if self.binary:
            places = F.binary_cross_entropy_with_logits(predicted, wanted, reduction="none")
        else:
            places = (predicted - wanted).square() / 2
        return (places if weight is None else places * weight).sum(dim=(1, 2, 3))

    def shown(self, predicted: Tensor) -> Tensor:
        """A prediction as a map."""
        return predicted.sigmoid() if self.binary else predicted


def _depth_from_stored(depth: Tensor) -> Tensor:
    """Depth 1 (near) to 10 (far) -> -1 to 1."""
    return (depth - 5.5) / 4.5


def _filled(coverage: Tensor) -> Tensor:
    return (coverage >= 0.5).float()


EDGE = Condition("edge", 1, True, canny_edges, EDGE_F1, shrink=strongest)
MASK = Condition("mask", 1, True, salient_mask, IOU, stored="mask", from_stored=_filled)
STROKE = Condition("stroke", 3, False, colour_strokes, COLOUR_ERROR)
PALETTE = Condition("palette", 3, False, palette_of, COLOUR_ERROR)
DEPTH = Condition(
    "depth", 1, False, None, DEPTH_ERROR, stored="depth", from_stored=_depth_from_stored
)
CONDITIONS = (EDGE, MASK, STROKE, PALETTE, DEPTH)
"""Those diffgen brings."""

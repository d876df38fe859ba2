"""Maps of pictures: the data's own where it brings them, else found in the pictures."""

from collections.abc import Iterable
from typing import Protocol, TypeGuard, runtime_checkable

import torch
from torch import Tensor

from diffgen.data.hub import HubStream
from diffgen.data.source import ImageSource
from diffgen.lacon.conditions import Condition


@runtime_checkable
class Mapped(Protocol):
    """Images that bring maps of their own."""

    def maps(self, index: int, /) -> dict[str, Tensor]:
        """By name, each (1 or 3, H, W), of image ``index`` without augmentation."""


def has_own_maps(images: object, condition: Condition) -> TypeGuard[Mapped]:
    """Whether ``images`` bring the maps of ``condition``, called ``condition.stored`` there."""
    own = condition.stored
    return own is not None and isinstance(images, Mapped) and own in images.maps(0)


def maps_of(
    images: ImageSource | HubStream, indices: Iterable[int], condition: Condition
) -> Tensor:
    """The maps (B, channels, H, W) of images ``indices``, without augmentation.

    Raises:
        UserError: they are not the data's own, and cannot be found in pictures.
    """
    if has_own_maps(images, condition):
        own = [images.maps(i)[str(condition.stored)] for i in indices]
        return condition.from_stored(torch.stack(own))
    return condition.of(torch.stack([images[i][0] for i in indices]))

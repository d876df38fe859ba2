"""Sets of 8-bit images through the embedded reader, once, for every metric."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from diffgen.data.pixels import from_uint8
from diffgen.metrics.reader import READER_CLASSES, Reader


@dataclass(frozen=True)
class Reading:
    """What the reader saw in a set of N images."""

    features: Tensor
    """(N, 64) fp32."""
    classes: Tensor
    """(N,) int64, the reader's best class over READER_CLASSES."""
    wanted: Tensor
    """(N,) int64, the class each image should show; -1: one the reader does not know."""

    def correct(self) -> int | None:
        """Images read as what they should show; None if the reader knows none of the classes."""
        if not bool((self.wanted >= 0).all()):
            return None
        return int((self.classes == self.wanted).sum())

    def __getitem__(self, part: slice) -> "Reading":
        return Reading(self.features[part], self.classes[part], self.wanted[part])


def reader_labels(class_names: tuple[str, ...] | list[str]) -> list[int]:
    """The reader's label of each class name, -1 for names it does not know."""
    return [READER_CLASSES.index(n) if n in READER_CLASSES else -1 for n in class_names]


@torch.no_grad()
def read(
    reader: Reader, batches: Iterable[tuple[Tensor, Tensor]], class_names: tuple[str, ...]
) -> Reading:
    """Read batches of (images (B, 3, H, W) uint8, labels (B,) int64).

    Labels beyond ``class_names`` (the null class) are of a class the reader does not know.
    """
    known = torch.tensor([*reader_labels(class_names), -1])
    features, classes, wanted = [], [], []
    device = next(reader.parameters()).device
    for images, labels in batches:
        seen = reader(from_uint8(images.to(device)))
        features.append(seen.features.cpu())
        classes.append(seen.logits.argmax(dim=1).cpu())
        wanted.append(known[labels.clamp(max=len(known) - 1)])
    return Reading(torch.cat(features), torch.cat(classes), torch.cat(wanted))

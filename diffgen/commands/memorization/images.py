"""How the images are divided into two training sets and those held out."""

from typing import NamedTuple

import torch
from torch import Tensor

from diffgen.config.memorization import MemorizationConfig
from diffgen.data.folder import Folder
from diffgen.data.listing import names_digest
from diffgen.data.source import ImageSource, build_images
from diffgen.data.subset import subset_indices
from diffgen.errors import UserError


class Parts(NamedTuple):
    """Training images of a start at 0, those of b at the middle; where others are held out."""

    half: int
    """Images before the middle."""
    held_out: ImageSource
    listed: Folder | None
    """All of a folder's images."""

    def digests(self, config: MemorizationConfig, count: int) -> tuple[str, str, str] | None:
        """Of the names of a's images, b's and those held out; None: they are drawn, or shipped."""
        if self.listed is None:
            return None
        total = len(self.listed)
        ranges = (0, count), (self.half, self.half + count), (total - config.num_noisy, total)
        first, second, held_out = (self._digest(config, *one) for one in ranges)
        return first, second, held_out

    def _digest(self, config: MemorizationConfig, start: int, stop: int) -> str:
        assert self.listed is not None
        files = self.listed.files
        chosen = subset_indices(len(files), f"{start}:{stop}", config.seed)
        return names_digest([files[k] for k in chosen], self.listed.config.path)


def divide(config: MemorizationConfig) -> Parts:
    """The sets: drawn and shipped images have a split that is held out, a folder's are its last.

    Where they start depends on the number of images alone.

    Raises:
        UserError: there are too few images for the largest N, or to hold out.
    """
    every = build_images(config.data)
    stored = isinstance(every, Folder)
    largest, noisy, total = max(config.counts), config.num_noisy, len(every)
    half = total // 2
    room = min(half, total - half - noisy) if stored else half
    if largest > room:
        besides = f", the last {noisy:,} of which num_noisy holds out" if stored else ""
        raise UserError(
            f"counts: sets of {largest:,} images, one from the first and one from the middle of "
            f"{total:,} on{besides}; {max(0, room):,} is the largest there is room for"
        )
    if isinstance(every, Folder):
        return Parts(half, build_images(config.part(total - noisy, total)), every)
    held_out = build_images(config.data, "held_out")
    if noisy > len(held_out):
        raise UserError(f"num_noisy: {noisy}, but only {len(held_out):,} images are held out")
    return Parts(half, held_out, None)


def stacked(images: ImageSource, count: int) -> Tensor:
    """The first ``count`` images, (count, 3, H, W) fp32 in [-1, 1]."""
    return torch.stack([images[k][0] for k in range(count)])

"""Handwritten digits that ship with the package: real data, no download.

Data: 1,797 digits of 8 x 8 pixels, the test part of E. Alpaydin and C. Kaynak, "Optical
Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998,
https://doi.org/10.24432/C50P49, licensed CC BY 4.0, as distributed by scikit-learn's
``load_digits``. Unchanged but for the storage: grey levels 0 to 16 as uint8.
"""

from functools import cache
from importlib import resources

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch.utils.data import Dataset

CLASS_NAMES = tuple(str(digit) for digit in range(10))
GREY_LEVELS = 16
"""The stored grey level of full ink; 0 is paper."""

_HELD_OUT_EVERY = 6


@cache
def load() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """All digits as shipped: images (1797, 8, 8) in 0..16 and labels (1797,) in 0..9."""
    with resources.files("diffgen.data").joinpath("digits.npz").open("rb") as file:
        stored = np.load(file, allow_pickle=False)
        return stored["images"], stored["labels"]


def split_indices(split: str) -> NDArray[np.int64]:
    """Positions of a split's digits in the file, ascending.

    Stratified: of every class, in file order, each sixth digit (the 6th, 12th, ...) is held out.
    1,501 digits train, 296 held out. Raises ValueError for a split other than these two.
    """
    if split not in ("train", "held_out"):
        raise ValueError(f"split is {split!r}; allowed: train, held_out")
    labels = load()[1]
    held_out = np.zeros(len(labels), bool)
    for digit in range(10):
        held_out[np.flatnonzero(labels == digit)[_HELD_OUT_EVERY - 1 :: _HELD_OUT_EVERY]] = True
    return np.flatnonzero(held_out == (split == "held_out"))


def render(images: NDArray[np.uint8], height: int, width: int) -> torch.Tensor:
    """Digits (N, 8, 8) in 0..16 as white ink on black: (N, 1, H, W) float32 in [-1, 1].

    Resized (bicubic, antialiased, clipped) to the canvas's short side and centred.
    """
    side = min(height, width)
    ink = torch.from_numpy(images).float()[:, None] / GREY_LEVELS
    ink = F.interpolate(ink, (side, side), mode="bicubic", antialias=True, align_corners=False)
    canvas = torch.full((len(images), 1, height, width), -1.0)
    top, left = (height - side) // 2, (width - side) // 2
    canvas[:, :, top : top + side, left : left + side] = ink.clamp(0, 1) * 2 - 1
    return canvas


class Digits(Dataset[tuple[torch.Tensor, int]]):
    """Handwritten digits at one size, kept in memory.

    Items are (image, label): image (3, H, W) float32 in [-1, 1], three equal channels (a view,
    not to be written to), and the digit. The file is in the order of its writers, and so are the
    items. ``places``: those of the split that are kept; None: all. Raises ValueError for an
    unknown split or a side below 8 pixels.
    """

    class_names = CLASS_NAMES

    def __init__(
        self, height: int, width: int, split: str = "train", places: list[int] | None = None
    ) -> None:
        if min(height, width) < 8:
            raise ValueError(f"height x width is {height} x {width}; each must be at least 8")
        self.height, self.width = height, width
        self.indices = split_indices(split)[slice(None) if places is None else places]
        images, labels = load()
        self._images = render(images[self.indices], height, width)
        self._labels: list[int] = labels[self.indices].tolist()

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        return self._images[i].expand(3, -1, -1), self._labels[i]

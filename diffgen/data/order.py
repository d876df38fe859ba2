"""The order of training, as a function of (seed, sample number) alone.

There is no loader state: sample ``number`` of a run is the same picture, augmented the same way,
whichever process meets it and however often the run was resumed.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from diffgen.data.blocks import BlockOrder
from diffgen.data.fit import Part
from diffgen.data.hub import HubStream
from diffgen.data.images import StoredImages
from diffgen.data.source import Augmented, ImageSource
from diffgen.seeding import stream_generator, stream_seed


class Drawn(TypedDict, total=False):
    """What is drawn for a sample, if that is done where it is loaded."""

    t: Tensor
    """0-d, its time in [0, 1]."""
    drop: Tensor
    """0-d in [0, 1): small ones drop the label."""
    eps: Tensor
    """Noise of the shape of what the model sees."""
    posterior: Tensor
    """Noise of the posterior of its latents, likewise."""


class Sample(Drawn):
    """One training image; a batch has the same keys, stacked."""

    image: Tensor
    """(3, H, W) fp32 in [-1, 1]; where sizes are mixed, a batch is a list of them."""
    crop: Tensor
    """(4,) fp32, the part of the picture that is shown: see diffgen.data.fit.Part [pixels]."""
    label: int
    number: int
    """Its place in the training, counted over all processes from 0."""
    damage: str
    """What is wrong with the image that this one stands in for; empty: it is the one meant."""


@dataclass
class EpochOrder:
    """Every image once an epoch, each epoch in its own order."""

    count: int
    seed: int
    _epoch: int = field(default=-1, init=False)
    _permutation: NDArray[np.int64] = field(init=False, repr=False)

    def index(self, number: int) -> int:
        """The image that sample ``number`` shows."""
        epoch, place = divmod(number, self.count)
        if epoch != self._epoch:
            rng = np.random.default_rng(stream_seed(self.seed, "order", epoch) + 2**63)
            self._permutation, self._epoch = rng.permutation(self.count), epoch
        return int(self._permutation[place])


class TrainingData(Dataset[Sample]):
    """Samples by their number in the training."""

    def __init__(
        self, images: ImageSource | HubStream, seed: int, mixed_sizes: bool = False
    ) -> None:
        self.images = images
        self.seed = seed
        self.mixed_sizes = mixed_sizes
        self.draws: Callable[[Sample], Drawn] | None = None
        """What is added to each sample; for images of one size."""
        self.order: BlockOrder | EpochOrder
        if isinstance(images, HubStream):
            self.order = images.order(seed)
        else:
            self.order = EpochOrder(len(images), seed)

    @property
    def count(self) -> int | None:
        """Images of an epoch; None: a stream, whose end is not known ahead."""
        return None if isinstance(self.images, HubStream) else len(self.images)

    def __getitem__(self, number: int) -> Sample:
        index, damage = self.order.index(number), ""
        if isinstance(self.images, Augmented):
            generator = stream_generator(self.seed, "augment", number)
            image, label, part = self.images.augmented(index, generator)
        else:
            image, label = self.images[index]
            part = Part(image.shape[-2], image.shape[-1], 0, 0)
        if isinstance(self.images, StoredImages | HubStream):
            damage = self.images.failed.get(index, "")
        crop = torch.tensor(part, dtype=torch.float32)
        sample = Sample(image=image, crop=crop, label=label, number=number, damage=damage)
        if self.draws is not None:
            sample.update(self.draws(sample))
        return sample


@dataclass(frozen=True)
class BatchNumbers:
    """Sample numbers of each micro-batch of one process, from image ``start`` to ``stop``.

    A global batch is ``batch_size`` consecutive numbers, dealt out in equal runs to the
    processes, and on each cut into ``accumulation`` micro-batches.
    """

    start: int
    stop: int
    batch_size: int
    accumulation: int = 1
    rank: int = 0
    world: int = 1

    def __iter__(self) -> Iterator[list[int]]:
        share = self.batch_size // self.world
        micro = share // self.accumulation
        for first in range(self.start, self.stop, self.batch_size):
            mine = first + self.rank * share
            for piece in range(self.accumulation):
                yield list(range(mine + piece * micro, mine + (piece + 1) * micro))

    def __len__(self) -> int:
        return -(-(self.stop - self.start) // self.batch_size) * self.accumulation

"""The teacher's images, drawn once and kept: (noise, class, x0).

Only x0 is stored. The noise of pair k is a function of (seed, k), as every image's is.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from diffgen.data.order import Sample, TrainingData
from diffgen.errors import UserError
from diffgen.group import cut
from diffgen.metrics.shards import Shards
from diffgen.seeding import image_noise, stream_seed

SHORTEST, LONGEST = 64, 512


def shard_size(count: int) -> int:
    """Pairs of a file: a kill while they are drawn costs so many."""
    return min(LONGEST, max(SHORTEST, count // 128))


def pair_seed(seed: int) -> int:
    """The seed of the pairs' noise: no image that is drawn with a seed of its own shares it."""
    return stream_seed(seed, "pairs", 0) % 2**62


@dataclass
class Pairs:
    """Images of the teacher as a source of training images: (x0, label) by number."""

    shards: Shards
    class_names: tuple[str, ...]
    num_classes: int
    seed: int
    """See ``pair_seed``."""
    _open: dict[int, Any] = field(default_factory=dict, init=False, repr=False)

    def __len__(self) -> int:
        return self.shards.count

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """x0 (C, h, w) fp32 as the model sees it, and the class that was asked for."""
        shard, place = divmod(index, self.shards.size)
        if shard not in self._open:  # a file is mapped, not read
            self._open[shard] = _checked(self.shards.file(self.shards.ranges[shard]))
        return self._open[shard][place], self.label(index)

    def label(self, index: int) -> int:
        """The classes in turn; the null class of a model without any."""
        return index % self.num_classes if self.num_classes else 0

    def noise(self, index: int, shape: torch.Size) -> Tensor:
        """(C, h, w) fp32, what the teacher began with; ``shape``: that of x0."""
        return image_noise(self.seed, [index], tuple(shape))[0]

    def first(self, count: int) -> tuple[Tensor, Tensor]:
        """x0 and labels of the first ``count`` pairs, or of all there are."""
        numbers = range(min(count, len(self)))
        x0 = torch.stack([self[k][0] for k in numbers])
        return x0, torch.tensor([self.label(k) for k in numbers])

    def __getstate__(self) -> dict[str, Any]:
        """Without open files, which another process opens anew."""
        return {**self.__dict__, "_open": {}}


def _checked(file: Path) -> Any:
    """The x0 of a file, read once to see that they are those that were written.

    Raises:
        UserError: they are not: students would learn from anything.
    """
    try:
        stored = safe_open(file, "pt")
        sound = torch.equal(checksum(stored.get_tensor("x0")), stored.get_tensor("checksum"))
    except (OSError, SafetensorError) as error:
        raise UserError(f"pairs: {file} cannot be read: {error}") from None
    if not sound:
        raise UserError(f"pairs: {file} is damaged; remove it, and the same command draws it again")
    return stored.get_slice("x0")


def checksum(x0: Tensor) -> Tensor:
    """The sum of all values' bits, 0-d int64."""
    return x0.contiguous().view(torch.int32).sum(dtype=torch.int64)


class PairSample(Sample, total=False):
    """A teacher's image in the place of a training image, and what the teacher drew it from."""

    noise: Tensor
    """(C, h, w) fp32."""


class PairData(TrainingData):
    """Pairs by their number in the training."""

    def __init__(self, pairs: Pairs, seed: int) -> None:
        super().__init__(pairs, seed)
        self.pairs = pairs

    def __getitem__(self, number: int) -> PairSample:
        sample = cast(PairSample, super().__getitem__(number))
        sample["noise"] = self.pairs.noise(self.order.index(number), sample["image"].shape)
        return sample


def make_pairs(
    pairs: Pairs,
    numbers: Sequence[int],
    draw: Callable[[list[int], Tensor], Tensor],
    batch_size: int,
) -> None:
    """Draw the pairs of one file, ``numbers``, and store them.

    Args:
        draw: (numbers of images, labels) -> x0 (B, C, h, w), from the noise of those numbers.
        batch_size: of images drawn at once.
    """
    labels = torch.tensor([pairs.label(k) for k in numbers])
    drawn = [
        draw([numbers[k] for k in places], labels[places.start : places.stop]).cpu()
        for places in cut(len(numbers), batch_size)
    ]
    x0 = torch.cat(drawn).float()
    stored = {"x0": x0, "labels": labels, "checksum": checksum(x0)}
    pairs.shards.write(range(numbers[0], numbers[-1] + 1), stored)

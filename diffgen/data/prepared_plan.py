"""Which images lie in which file of latents: a function of the source and the settings alone."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diffgen.group import cut

Size = tuple[int, int]


@dataclass(frozen=True)
class Shard:
    """One file to be: images of one size, of which those that turn out damaged are left out."""

    file: str
    """Below the folder of all."""
    size: Size
    """Of its latents [latent pixels]."""
    numbers: Sequence[int] | NDArray[np.int64]
    """Of its images in the source, ascending."""

    def __len__(self) -> int:
        return len(self.numbers)


def plan_of_one_size(count: int, size: Size, images: int) -> list[Shard]:
    """Files of ``images`` images each, in their order; ``size`` of the latents."""
    return list(_cut(range(count), size, images))


def plan_of_sizes(sizes: NDArray[np.int32], factor: int, images: int) -> list[Shard]:
    """The images of each size apart, in files of ``images`` each.

    Args:
        sizes: (N, 2) of all images [image pixels]; 0 x 0 of those that are left out.
        factor: pixels of an image to one of its latents.
        images: in a file.
    """
    shards: list[Shard] = []
    found, bucket = np.unique(sizes, axis=0, return_inverse=True)
    bucket = bucket.reshape(-1)
    order = np.argsort(bucket, kind="stable")
    ends = np.cumsum(np.bincount(bucket, minlength=len(found)))
    for (height, width), numbers in zip(found.tolist(), np.split(order, ends[:-1]), strict=True):
        if height:
            shards += _cut(numbers, (height // factor, width // factor), images)
    return shards


def _cut(numbers: range | NDArray[np.int64], size: Size, images: int) -> Iterator[Shard]:
    for k, part in enumerate(cut(len(numbers), images)):
        name = f"{size[0]}x{size[1]}/shard-{k:05d}.safetensors"
        yield Shard(name, size, numbers[part.start : part.stop])

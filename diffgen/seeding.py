"""Random numbers as functions of (seed, stream, number), never of a process's own generator.

Whatever the batch size, the number of processes or the place training resumed at, sample
``number`` of ``stream`` meets the same randomness.
"""

import zlib

import numpy as np
import torch
from torch import Tensor


def stream_generator(seed: int, stream: str, number: int) -> torch.Generator:
    """A CPU generator for one sample of one stream (``"train"``, ``"image"``, ...)."""
    return torch.Generator().manual_seed(stream_seed(seed, stream, number))


def stream_seed(seed: int, stream: str, number: int) -> int:
    """A 64-bit seed, well mixed even for neighbouring numbers."""
    mixed = np.random.SeedSequence([seed, zlib.crc32(stream.encode()), number])
    low, high = mixed.generate_state(2, np.uint32).tolist()
    return (high << 32 | low) - 2**63


def step_generators(seed: int, numbers: list[int]) -> list[torch.Generator]:
    """For the noise that is added to an image on the way, drawn in the order it is needed."""
    return [stream_generator(seed, "step", n) for n in numbers]


def image_noise(seed: int, numbers: list[int], shape: tuple[int, ...]) -> Tensor:
    """Initial noise of images ``numbers``: (len(numbers), *shape), fp32, on the CPU."""
    draws = [torch.randn(shape, generator=stream_generator(seed, "image", n)) for n in numbers]
    return torch.stack(draws)


def posterior_noise(seed: int, numbers: list[int], shape: tuple[int, ...]) -> Tensor:
    """Noise of the posteriors of training samples ``numbers``: (len(numbers), *shape), fp32."""
    draws = [torch.randn(shape, generator=stream_generator(seed, "posterior", n)) for n in numbers]
    return torch.stack(draws)

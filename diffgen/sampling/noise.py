"""The noise a sampling run starts from, by whichever way of seeding was chosen."""

import torch
from torch import Tensor

from diffgen.sampling.geometry import Geometry
from diffgen.seeding import image_noise, stream_seed

Generators = torch.Generator | list[torch.Generator]


def initial_noise(
    numbers: list[int],
    geometry: Geometry,
    size: tuple[int | None, int | None] = (None, None),
    seed: int | None = None,
    generator: Generators | None = None,
    latents: Tensor | None = None,
) -> Tensor:
    """Unit normal noise of the images ``numbers``, as the model sees them.

    Args:
        numbers: (B,) of the images; they matter with ``seed`` alone.
        geometry: the model's.
        size: height and width of the images [pixels]; None: as trained, or as ``latents`` are.
        seed: image k of ``numbers`` starts from the noise of (seed, k), whatever the batch.
        generator: torch's way of seeding: one for all, or one for each image.
        latents: (B, C, h, w) the noise itself. Without any of the three it comes from torch's
            global generator.

    Returns:
        (B, C, h, w) fp32, on the device of what it comes from, else on the CPU.

    Raises:
        ValueError: more than one source of noise, or one that does not fit.
    """
    if sum(source is not None for source in (seed, generator, latents)) > 1:
        raise ValueError("give one of seed, generator and latents")
    shape, count = geometry.shape(*size), len(numbers)
    if latents is not None:
        sized = shape if any(size) else (shape[0], *latents.shape[2:])
        if latents.shape != (count, *sized) or any(s % geometry.patch for s in latents.shape[2:]):
            raise ValueError(
                f"latents are {tuple(latents.shape)}, but {(count, *sized)} is needed, "
                f"in multiples of the patch {geometry.patch}"
            )
        return latents.float()
    if seed is not None:
        return image_noise(seed, numbers, shape)
    if isinstance(generator, list):
        if len(generator) != count:
            raise ValueError(f"{len(generator)} generators were given for {count} images")
        return torch.stack([torch.randn(shape, generator=g, device=g.device) for g in generator])
    device = "cpu" if generator is None else generator.device
    return torch.randn((count, *shape), generator=generator, device=device)


def position_seeds(
    numbers: list[int], seed: int | None = None, generator: Generators | None = None
) -> list[int]:
    """Seeds of the positions that an encoding draws for the images ``numbers``.

    They follow the ``seed``, or those of ``generator``; without either torch's global generator.
    """
    if isinstance(generator, list):
        return [one.initial_seed() for one in generator]
    if generator is not None:
        seed = abs(generator.initial_seed())
    if seed is None:
        seed = int(torch.randint(2**31, ()))
    return [stream_seed(seed, "positions", number) for number in numbers]

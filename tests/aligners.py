"""Aligners for tiny models: fresh ones, and one that reads what it is asked for."""

import torch
from torch import Tensor, nn

from diffgen import DiffGenPipeline
from diffgen.lacon.aligner import Aligner
from diffgen.lacon.conditions import Condition
from diffgen.lacon.losses import Aligned
from diffgen.sampling.guided import Denoiser


def fresh(pipe: DiffGenPipeline, condition: Condition, seed: int = 0, **options) -> Aligner:
    """An untrained one, its weights frozen."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        aligner = Aligner.of(pipe.transformer, condition.name, condition.channels, **options)
    return aligner.eval().requires_grad_(False)


def maps(condition: Condition, count: int, size: tuple[int, int], seed: int = 5) -> Tensor:
    """(count, channels, *size) random maps in the condition's range."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.rand(count, condition.channels, *size, generator=generator)
    return (drawn > 0.5).float() if condition.binary else 2 * drawn - 1


def wish(pipe: DiffGenPipeline, condition: Condition, count: int = 3, size=(8, 8), **options):
    """A loss: an untrained aligner is to read random maps."""
    weight = options.pop("weight", None)
    aligner = fresh(pipe, condition, **options)
    return Aligned(aligner, condition, maps(condition, count, size), weight)


def pictures(count: int, size: tuple[int, int], seed: int) -> Tensor:
    """(count, 3, *size) smooth random pictures in [-1, 1]."""
    generator = torch.Generator().manual_seed(seed)
    rough = torch.randn(count, 3, 3, 3, generator=generator)
    smooth = nn.functional.interpolate(rough, size, mode="bilinear", align_corners=True)
    return smooth.clamp(-1, 1)


def trained(denoiser: Denoiser, aligner: Aligner, condition: Condition, steps: int) -> Aligner:
    """``aligner`` after some steps on smooth pictures, a second or two."""
    generator = torch.Generator().manual_seed(1)
    aligner.train().requires_grad_(True)
    optimiser = torch.optim.Adam(aligner.parameters(), 5e-3)
    for step in range(steps):
        x0 = pictures(16, (8, 8), seed=1000 + step)
        t = 0.2 + 0.6 * float(torch.rand((), generator=generator))
        x_t = (1 - t) * x0 + t * torch.randn(x0.shape, generator=generator)
        labels = torch.zeros(len(x0), dtype=torch.int64)
        with torch.no_grad():
            _, seen = denoiser.observed(x_t, t, labels, None, aligner.blocks)
        loss = condition.loss(aligner(seen), condition.of(x0)).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return aligner.eval().requires_grad_(False)

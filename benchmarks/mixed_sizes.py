"""Is a training step on images of mixed sizes faster packed than padded?

The same images through the same model, loss and gradients: packed (linears on all tokens in one
sequence, attention by length) against padded to the longest image of the batch and masked. Two
histograms of tokens an image, drawn with seed 0:

- native: small images keep their size, tokens log-uniform in 16 ... 256;
- budget: every image is resized to the budget of 256 tokens, aspect ratios log-uniform in
  1/2 ... 2, sides rounded down to whole tokens.

    python -m benchmarks.mixed_sizes [--size B]

On a GPU both compute in bf16 and the packed attention is varlen.
"""

from __future__ import annotations

import argparse
import math
import random
from collections import Counter
from functools import partial
from statistics import mean

import torch
from torch import Tensor

from benchmarks.harness import compare
from diffgen import DiT
from diffgen.config.model import SIZES, DiTConfig, TimeConvention
from diffgen.config.positions import RopeConfig
from diffgen.data.fit import WHOLE, within
from diffgen.processes import Flow
from diffgen.training.mixed import mixed_losses

PATCH, CHANNELS, BUDGET = 2, 4, 256
ROUNDS = 12


def native(rng: random.Random) -> tuple[int, int]:
    """A grid of log-uniform area, aspect ratio log-uniform in 1/2 ... 2."""
    area, aspect = 16 * 16 ** rng.random(), 2 ** (2 * rng.random() - 1)
    return max(1, round(math.sqrt(area * aspect))), max(1, round(math.sqrt(area / aspect)))


def budgeted(rng: random.Random) -> tuple[int, int]:
    """A grid of at most BUDGET tokens, from a picture that is larger."""
    aspect = 2 ** (2 * rng.random() - 1)
    picture = (round(1000 * math.sqrt(aspect)), round(1000 / math.sqrt(aspect)))
    height, width = within(picture, BUDGET, WHOLE)
    return height, width


def step(model: DiT, x0: list[Tensor], eps: list[Tensor], t: Tensor, y: Tensor, padded: bool):
    """Loss and gradients of one batch."""
    model.zero_grad(set_to_none=True)
    half = t.device.type == "cuda"
    with torch.autocast(t.device.type, torch.bfloat16, enabled=half):
        process = Flow(TimeConvention())
        loss = mixed_losses(process, model, x0, eps, t, y, PATCH, padded).mean()
    loss.backward()
    return loss.detach()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=list(SIZES), default="demo", help="of the model")
    parser.add_argument("--batch", type=int, default=32, help="images a step [count]")
    arguments = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    config = DiTConfig(size=arguments.size, patch_size=PATCH, position=RopeConfig(additive=False))
    torch.manual_seed(0)
    model = DiT.build(config, num_classes=8, in_channels=CHANNELS, sample_size=(32, 32))
    model.to(device).train()
    for histogram in (native, budgeted):
        rng, generator = random.Random(0), torch.Generator().manual_seed(0)
        grids = [histogram(rng) for _ in range(arguments.batch)]
        shapes = [(CHANNELS, PATCH * rows, PATCH * columns) for rows, columns in grids]
        x0, eps = (
            [torch.randn(shape, generator=generator).to(device) for shape in shapes]
            for _ in range(2)
        )
        t = torch.rand(len(grids), generator=generator).to(device)
        y = torch.randint(8, (len(grids),), generator=generator).to(device)
        lengths = [rows * columns for rows, columns in grids]
        fill = mean(lengths) / max(lengths)
        bins = Counter(2 ** int(math.log2(length)) for length in lengths)
        print(f"{histogram.__name__}: fill {fill:.2f}, tokens from {dict(sorted(bins.items()))}")
        packed, padded = (partial(step, model, x0, eps, t, y, p) for p in (False, True))
        torch.testing.assert_close(
            packed(), padded(), rtol=1e-2 if device == "cuda" else 1e-5, atol=0
        )
        compare(
            f"mixed-sizes-{arguments.size}-{histogram.__name__}-{device}",
            {"packed": packed, "padded": padded},
            rounds=ROUNDS,
            items_per_call=len(grids),
            device=device,
        )


if __name__ == "__main__":
    main()

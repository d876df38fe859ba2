"""The loss of one batch, with randomness that belongs to the samples."""

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor, nn

from diffgen.data.order import Sample
from diffgen.processes import Process
from diffgen.seeding import stream_generator

Encode: TypeAlias = Callable[[Tensor, list[int]], Tensor]
"""Images (B, 3, H, W) of the samples with these numbers -> what the model sees of them."""


def draw(
    process: Process, seed: int, numbers: list[int], shape: tuple[int, ...]
) -> tuple[Tensor, Tensor, Tensor]:
    """Times (B,), label-drop uniforms (B,) and noise (B, *shape) of the samples ``numbers``.

    Each is a function of (seed, number) alone.
    """
    times, drops, noise = [], [], []
    for number in numbers:
        generator = stream_generator(seed, "train", number)
        times.append(process.draw_time(generator))
        drops.append(torch.rand((), generator=generator))
        noise.append(torch.randn(shape, generator=generator))
    return torch.stack(times), torch.stack(drops), torch.stack(noise)


def batch_loss(
    model: nn.Module,
    process: Process,
    batch: Sample,
    *,
    seed: int,
    null_label: int,
    class_dropout: float,
    device: torch.device,
    encode: Encode | None = None,
) -> Tensor:
    """Mean loss of a batch; labels are dropped to the null class at the rate asked for.

    ``encode`` turns the images into latents; None: the model sees pixels.
    """
    x0 = batch["image"].to(device, non_blocking=True)
    numbers = torch.as_tensor(batch["number"]).tolist()
    if encode is not None:
        x0 = encode(x0, numbers)
    t, drop, eps = (part.to(device) for part in draw(process, seed, numbers, x0.shape[1:]))
    labels = torch.as_tensor(batch["label"]).to(device)
    if null_label == 0:  # unconditional: the data's labels mean nothing to the model
        labels = torch.zeros_like(labels)
    labels = torch.where(drop < class_dropout, null_label, labels)
    return process.loss(model, x0, eps, t, labels).mean()

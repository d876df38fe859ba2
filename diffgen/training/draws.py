"""What is drawn for training samples beside their images: functions of (seed, number) alone."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from diffgen.config.vae import LatentFormat
from diffgen.data.order import Drawn, Sample
from diffgen.processes import Process
from diffgen.seeding import posterior_noise, stream_generator


def draw(
    draw_time: Callable[[torch.Generator], Tensor],
    seed: int,
    numbers: list[int],
    shape: tuple[int, ...],
    stream: str = "train",
) -> tuple[Tensor, Tensor, Tensor]:
    """Times (B,), label-drop uniforms (B,) and noise (B, *shape) of the samples ``numbers``.

    Each is a function of (seed, number) alone.
    """
    times, drops, noise = [], [], []
    for number in numbers:
        generator = stream_generator(seed, stream, number)
        times.append(draw_time(generator))
        drops.append(torch.rand((), generator=generator))
        noise.append(torch.randn(shape, generator=generator))
    return torch.stack(times), torch.stack(drops), torch.stack(noise)


@dataclass(frozen=True)
class Draws:
    """Draws for a sample where it is loaded, in a worker, so that no step waits for them."""

    process: Process
    seed: int
    latents: LatentFormat | None
    """Of what the model sees; None: pixels."""
    posterior: bool
    """Latents are drawn from their posteriors."""

    def __call__(self, sample: Sample) -> Drawn:
        """All of them, ``posterior`` if it is drawn from."""
        number, shape = sample["number"], self.shape(tuple(sample["image"].shape))
        t, drop, eps = draw(self.process.draw_time, self.seed, [number], shape)
        found = Drawn(t=t[0], drop=drop[0], eps=eps[0])
        if self.posterior:
            found["posterior"] = posterior_noise(self.seed, [number], shape)[0]
        return found

    def shape(self, image: tuple[int, ...]) -> tuple[int, ...]:
        """Of what the model sees of an ``image`` (3, H, W), or of a stored posterior (2C, h, w)."""
        if self.latents is None:
            return image
        channels, height, width = image
        if channels != 3:  # posteriors have an even number
            return channels // 2, height, width
        factor = self.latents.factor
        return self.latents.channels, height // factor, width // factor

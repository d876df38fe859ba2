"""Two models trained on disjoint sets of N images, and the images they are measured on."""

from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from diffgen.commands.load import load_pipeline
from diffgen.config.base import parse_size
from diffgen.config.memorization import MemorizationConfig
from diffgen.config.train import TrainConfig
from diffgen.data.pixels import from_uint8
from diffgen.pipeline import DiffGenPipeline
from diffgen.sampling.additive import AdditiveDenoiser
from diffgen.sampling.batches import draw_batches
from diffgen.seeding import stream_generator

EXACT = 4096
"""Most numbers of an image whose whole Jacobian and covariance are computed."""


@dataclass(frozen=True)
class Pair:
    """Two models and their images; images are (., 3, H, W) fp32 in [-1, 1] on the CPU."""

    config: MemorizationConfig
    pipes: tuple[DiffGenPipeline, DiffGenPipeline]
    weights: tuple[str, str]
    """Digests."""
    training: tuple[Tensor, Tensor]
    held_out: Tensor
    """The first num_noisy of those that no model was trained on."""

    @classmethod
    def load(
        cls,
        config: MemorizationConfig,
        runs: tuple[TrainConfig, TrainConfig],
        training: tuple[Tensor, Tensor],
        held_out: Tensor,
    ) -> "Pair":
        """The models as they came out of their trainings."""
        first, second = (load_pipeline(run.out, config.device) for run in runs)
        weights = (first.weights, second.weights)
        return cls(config, (first.pipe, second.pipe), weights, training, held_out)

    @property
    def small(self) -> bool:
        """True where whole Jacobians and covariances fit."""
        return self.held_out[0].numel() <= EXACT

    @property
    def device(self) -> torch.device:
        """Where the models compute."""
        return self.pipes[0].device

    def denoiser(self, model: int, sigma: float) -> AdditiveDenoiser:
        """Model 0 or 1 as a denoiser of images with noise added."""
        pipe = self.pipes[model]
        return AdditiveDenoiser(pipe.denoiser([0]), sigma, pipe.transformer.num_classes)

    def noise(self) -> Tensor:
        """(num_noisy, 3, H, W), the same at every level and for every N."""
        shape, seed = self.held_out.shape[1:], self.config.seed
        numbers = range(self.config.num_noisy)
        draws = [torch.randn(shape, generator=stream_generator(seed, "noisy", k)) for k in numbers]
        return torch.stack(draws)

    def repeated(self, model: int) -> Tensor:
        """num_noisy training images of a model, each as often as it takes."""
        images = self.training[model]
        return images[torch.arange(self.config.num_noisy) % len(images)]

    def draw(self, model: int) -> Tensor:
        """Samples by the recipe's own solver, read back from 8 bits: (num_images, 3, H, W)."""
        config, pipe = self.config, self.pipes[model]
        height, width = parse_size(config.data.size)
        labels = [pipe.transformer.num_classes] * config.num_images
        batches = draw_batches(
            pipe, config.sampling, labels, height=height, width=width, seed=config.seed
        )
        total = -(-config.num_images // config.sampling.batch_size)
        bar = tqdm(batches, desc=f"samples of {'ab'[model]}", total=total, leave=False)
        return torch.cat([from_uint8(batch.images) for batch in bar])

"""The latents a run is trained on: its own copy of the VAE, their statistics, and the encoder."""

from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from diffgen.config.train import TrainConfig
from diffgen.config.vae import LatentFormat, VAEConfig, own_format, resumed_format
from diffgen.data.order import TrainingData
from diffgen.errors import UserError
from diffgen.files import write_folder, write_json
from diffgen.group import Group
from diffgen.models.vae import LatentSpace, load_vae, posterior_noise
from diffgen.training.checkpoint import Checkpoints
from diffgen.training.run_folder import RunFolder

SMALLEST_STD = 1e-6  # of a channel that says something


@dataclass(frozen=True)
class Encoder:
    """Training images to latents, with posterior noise that belongs to the samples."""

    space: LatentSpace
    config: VAEConfig
    seed: int

    def __call__(self, images: Tensor, numbers: list[int]) -> Tensor:
        """``images`` (B, 3, H, W) in [-1, 1] of the samples ``numbers`` -> (B, C, h, w) fp32."""
        noise = None
        if self.config.sample:
            shape = self.space.shape(*images.shape[-2:])
            noise = posterior_noise(self.seed, numbers, shape)
        return self.space.encode(images, noise, self.config.batch_size)


def open_encoder(
    config: TrainConfig,
    group: Group,
    device: torch.device,
    folder: RunFolder,
    data: TrainingData,
) -> Encoder | None:
    """The encoder of a run on latents; None: a run on pixels. All processes must call it.

    A new run copies the VAE into its folder and records the normalisation beside it; a resumed
    one works with what it finds there.

    Raises:
        UserError: the VAE cannot be loaded or copied, or a resumed run has lost it.
    """
    if config.vae is None:
        return None
    settings = config.vae
    with group.together():
        resumed = Checkpoints(folder.path, config.train.keep_checkpoints).newest() is not None
        if resumed:
            resumed_format(folder.path)  # refuses what does not belong together before loading it
        elif group.main:
            given = load_vae(settings.path, "vae.path", settings.revision)
            write_folder(folder.vae, given.save_pretrained)
    with group.together():
        dtype = torch.bfloat16 if settings.precision == "bf16" else torch.float32
        vae = load_vae(folder.vae.absolute(), dtype=dtype).to(device)
        if group.main and not resumed:
            space = LatentSpace(vae, own_format(dict(vae.config), settings.scale))
            found = space.format
            if settings.normalise == "per_channel":
                found = measure(Encoder(space, settings, config.seed), data, device)
            write_json(folder.latents, found.model_dump())
    with group.together():
        return Encoder(LatentSpace(vae, resumed_format(folder.path)), settings, config.seed)


def measure(encoder: Encoder, data: TrainingData, device: torch.device) -> LatentFormat:
    """The format with mean 0 and variance 1 in every channel of the run's first samples.

    Sums run in double precision, over the latents as the training meets them.

    Raises:
        UserError: a channel is constant.
    """
    channels, factor = encoder.space.format.channels, encoder.space.format.factor
    raw = LatentFormat(factor=factor, mean=(0.0,) * channels, std=(1.0,) * channels)
    encode = Encoder(LatentSpace(encoder.space.vae, raw), encoder.config, encoder.seed)
    count = min(encoder.config.statistics_images, data.count or encoder.config.statistics_images)
    total, squares = torch.zeros(2, channels, dtype=torch.float64)
    pixels, size = 0, encoder.config.batch_size
    for first in tqdm(range(0, count, size), desc="measuring latents", leave=False):
        numbers = list(range(first, min(first + size, count)))
        images = [data[number]["image"] for number in numbers]
        batches = [(image[None], [n]) for image, n in zip(images, numbers, strict=True)]
        if not data.mixed_sizes:
            batches = [(torch.stack(images), numbers)]
        for batch, its_numbers in batches:
            z = encode(batch.to(device), its_numbers).double().cpu()
            total += z.sum(dim=(0, 2, 3))
            squares += z.square().sum(dim=(0, 2, 3))
            pixels += z[:, 0].numel()
    mean = total / pixels
    std = (squares / pixels - mean.square()).clamp(min=0).sqrt()
    constant = (std < SMALLEST_STD).nonzero().flatten().tolist()
    if constant:
        raise UserError(
            f"vae.normalise: channel {constant[0]} of the latents is constant over {count} "
            "images, so per_channel cannot scale it; use none"
        )
    return LatentFormat(factor=factor, mean=mean.tolist(), std=std.tolist())

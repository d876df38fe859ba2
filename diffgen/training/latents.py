"""The latents a run is trained on: its own copy of the VAE, their statistics, and the encoder."""

from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from diffgen.config.source import resolve
from diffgen.config.train import TrainConfig
from diffgen.config.vae import (
    LatentFormat,
    VAEConfig,
    own_format,
    resumed_format,
    standardising,
)
from diffgen.data.latents import Latents
from diffgen.data.order import TrainingData
from diffgen.errors import UserError
from diffgen.files import write_folder, write_json
from diffgen.group import Group
from diffgen.models.vae import LatentSpace, load_vae
from diffgen.seeding import posterior_noise
from diffgen.training.checkpoints import Checkpoints
from diffgen.training.latents_fit import check_init, check_resumed, check_vae, record_source
from diffgen.training.run_folder import RunFolder


@dataclass(frozen=True)
class Encoder:
    """Training images to latents, with posterior noise that belongs to the samples."""

    space: LatentSpace
    config: VAEConfig
    seed: int

    def __call__(self, images: Tensor, numbers: list[int], noise: Tensor | None = None) -> Tensor:
        """Latents of the samples ``numbers``.

        Args:
            images: (B, 3, H, W) in [-1, 1], or their posteriors (B, 2C, h, w) as ``diffgen
                prepare`` stores them, see ``LatentSpace.posterior``.
            numbers: of the samples in the training.
            noise: (B, C, h, w), of their posteriors if these are sampled; None: draw it.

        Returns:
            (B, C, h, w) fp32.
        """
        moments = images
        if images.shape[1] == 3:  # posteriors have an even number
            moments = self.space.posterior(images, self.config.batch_size)
        if self.config.sample and noise is None:
            shape = (moments.shape[1] // 2, *moments.shape[-2:])
            noise = posterior_noise(self.seed, numbers, shape)
        return self.space.sampled(moments, noise)


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
        UserError: the VAE cannot be loaded or copied, a resumed run has lost it or finds other
            prepared latents, or the VAE or the normalisation is not that of prepared latents or of
            the model to start from.
    """
    if config.vae is None:
        return None
    settings = config.vae
    prepared = data.images if isinstance(data.images, Latents) else None
    with group.together():
        resumed = Checkpoints(folder.path).newest() is not None
        if resumed:
            resumed_format(folder.path)  # refuses what does not belong together before loading it
        if group.main and (prepared or not resumed):
            place = str(folder.vae) if resumed else settings.path
            given = load_vae(place, "vae.path", None if resumed else settings.revision)
            if prepared:
                check_vae(prepared.index, given, place)
                if resumed:
                    check_resumed(folder.path, prepared.index, prepared.config.path)
                else:
                    record_source(folder.path, prepared.index)
            if not resumed:
                write_folder(folder.vae, given.save_pretrained)
    with group.together():
        dtype = torch.bfloat16 if settings.precision == "bf16" else torch.float32
        vae = load_vae(folder.vae.absolute(), dtype=dtype).to(device)
        if group.main and not resumed:
            own = LatentSpace(vae, own_format(dict(vae.config), settings.scale))
            found = normalisation(config, Encoder(own, settings, config.seed), data, device)
            if config.init is not None:
                check_init(config.init, found, settings.normalise)
            write_json(folder.latents, found.model_dump())
    with group.together():
        return Encoder(LatentSpace(vae, resumed_format(folder.path)), settings, config.seed)


def normalisation(
    config: TrainConfig, encoder: Encoder, data: TrainingData, device: torch.device
) -> LatentFormat:
    """What ``vae.normalise`` asks for; ``encoder`` has the VAE's own.

    Raises:
        UserError: a channel is constant, or there is no model to take it from.
    """
    match encoder.config.normalise:
        case "none":
            return encoder.space.format
        case "init":
            there = resolve(config.init, "init").latent if config.init else None
            if there is None:
                raise UserError(
                    "vae.normalise: init takes that of a model of latents; give one with --init"
                )
            return there
    if isinstance(data.images, Latents):
        return data.images.index.per_channel(encoder.config.sample)
    return measure(encoder, data, device)


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
    return standardising(factor, mean.tolist(), std.tolist(), count)

"""The loss on held-out images, by noise level.

Image i of them meets a time within bin i mod bins, and noise, that are functions of (seed, i)
alone: every measurement is of the same pictures, noise and times, so that two differ by the
weights alone, whatever the batch size or the number of processes (up to rounding).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from diffgen.config.positions import PositionOverrides
from diffgen.config.train import TrainConfig
from diffgen.data.order import TrainingData
from diffgen.data.source import ImageSource
from diffgen.errors import UserError
from diffgen.group import Group, cut
from diffgen.models.dit import DiT
from diffgen.processes import DDPM, Process
from diffgen.seeding import stream_generator
from diffgen.training.draws import draw
from diffgen.training.ema import put_weights
from diffgen.training.latents import Encoder
from diffgen.training.mixed import mixed_losses
from diffgen.training.step import Encode, Objective


@dataclass(frozen=True)
class Validation:
    """Measures the averaged weights' loss; all processes hold one and measure together."""

    data: TrainingData
    """The held-out images, unaugmented, in an order of their own."""
    labels: Sequence[int]
    """Of each held-out class its label in the training."""
    count: int
    """The first so many images are measured."""
    bins: int
    """Equal parts of [0, 1]; image i has a time of part i mod bins."""
    objective: Objective
    """That of the training; of the dropping and drawing in it nothing is used."""
    model: DiT
    """Gets the averaged weights; it is not the one that trains."""
    group: Group
    batch_size: int
    """Images computed at once; the result depends on it by rounding alone."""

    def measure(self, weights: dict[str, Tensor], seen: int) -> dict[str, Any] | None:
        """The mean loss over all images and in every bin, of averaged ``weights`` by name.

        All processes must call it; None in all but the main one.

        Raises:
            UserError: an image is damaged.
        """
        mine = self.group.deal(cut(self.count, self.batch_size))
        found: dict[int, float] = {}
        with self.group.together(), torch.no_grad(), self._bar(sum(map(len, mine))) as bar:
            self._put(weights)
            for numbers in mine:
                losses = self.losses(numbers).double().tolist()
                found |= dict(zip(numbers, losses, strict=True))
                bar.update(len(numbers))
        every: dict[int, float] = {}
        for theirs in self.group.everyones(found):
            every |= theirs
        if not self.group.main:
            return None
        return curve(seen, [every[number] for number in range(self.count)], self.bins)

    def losses(self, numbers: Sequence[int]) -> Tensor:
        """(B,) fp32, the training's loss of held-out images ``numbers`` at their own times."""
        objective, samples = self.objective, [self.data[number] for number in numbers]
        process = objective.process
        x0 = self._seen([sample["image"] for sample in samples], numbers)
        drawn = [self._drawn(number, z.shape) for number, z in zip(numbers, x0, strict=True)]
        t = torch.cat([times for times, _ in drawn]).to(objective.device)
        eps = [noise.to(objective.device) for _, noise in drawn]
        labels = [self.labels[sample["label"]] for sample in samples]
        y = torch.tensor(labels if objective.null_label else [0] * len(labels)).to(t.device)
        told: dict[str, Any] = {}
        if objective.crop:
            crops = torch.stack([sample["crop"] for sample in samples]).to(t.device)
            told["crop"] = crops * (x0[0].shape[-1] / samples[0]["image"].shape[-1])
        if objective.share_positions is not None:
            told["generator"] = [
                stream_generator(objective.seed, "validation-positions", number)
                for number in numbers
            ]
        if self.data.mixed_sizes:
            patch, padded = objective.patch, objective.padded
            return mixed_losses(process, self.model, x0, eps, t, y, patch, padded, **told)
        return process.loss(self.model, torch.stack(x0), torch.stack(eps), t, y, **told)

    def _seen(self, images: Sequence[Tensor], numbers: Sequence[int]) -> list[Tensor]:
        """What the model sees of each image (3, H, W)."""
        images = [image.to(self.objective.device) for image in images]
        encode = self.objective.encode
        if encode is None:
            return list(images)
        if self.data.mixed_sizes:
            return [encode(z[None], [n])[0] for z, n in zip(images, numbers, strict=True)]
        return list(encode(torch.stack(images), list(numbers)))

    def _drawn(self, number: int, shape: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Time (1,) and noise (1, *shape) of a held-out image."""
        process, part = self.objective.process, number % self.bins

        def draw_time(generator: torch.Generator) -> Tensor:
            return allowed(process, (part + torch.rand((), generator=generator)) / self.bins)

        seed = self.objective.seed
        t, _, eps = draw(draw_time, seed, [number], tuple(shape), "validation")
        return t, eps[0]

    def _put(self, weights: dict[str, Tensor]) -> None:
        put_weights(self.model, weights)
        self.model.eval()
        self.model.use_position(PositionOverrides())  # a preview may have set another one

    def _bar(self, total: int) -> tqdm:
        hidden = not self.group.main
        return tqdm(total=total, unit="img", desc="validation", leave=False, disable=hidden)


def allowed(process: Process, t: Tensor) -> Tensor:
    """The time of a training at or above ``t`` in [0, 1): a chain has its T steps alone."""
    if not isinstance(process, DDPM):
        return t
    steps = process.config.num_train_timesteps
    return (t * steps).ceil().clamp(min=1) / steps


def curve(seen: int, losses: Sequence[float], bins: int) -> dict[str, Any]:
    """The line of a measurement; ``losses`` of images 0, 1, ..., image i in bin i mod bins."""
    return {
        "images": seen,
        "loss": fmean(losses),
        "bins": [fmean(losses[part::bins]) for part in range(bins)],
        "t": [edge / bins for edge in range(bins + 1)],
    }


def open_validation(
    config: TrainConfig,
    held_out: ImageSource,
    class_names: Sequence[str],
    objective: Objective,
    model: DiT,
    group: Group,
) -> Validation:
    """What measures the loss of a training of ``class_names``, see ``Validation``.

    Raises:
        UserError: ``held_out`` has a class that the training has not, or fewer images than bins.
    """
    settings = config.validation
    count = min(settings.images, len(held_out))
    if count < settings.bins:
        raise UserError(f"validation.bins: {settings.bins}, but there are {count} held-out images")
    return Validation(
        data=TrainingData(held_out, config.seed, config.data.mixed_sizes),
        labels=known_labels(held_out.class_names, class_names, objective.null_label),
        count=count,
        bins=settings.bins,
        objective=replace(objective, encode=without_noise(objective.encode)),
        model=model,
        group=group,
        batch_size=config.sampling.batch_size,
    )


def known_labels(held_out: Sequence[str], trained: Sequence[str], null_label: int) -> list[int]:
    """Of each held-out class its label in the training.

    A single class on both sides is the same one: flat folders are named after themselves. Of an
    unconditional model (``null_label`` 0) classes mean nothing.

    Raises:
        UserError: a class is not trained on.
    """
    if null_label == 0 or len(held_out) == len(trained) == 1:
        return [0] * len(held_out)
    unknown = [name for name in held_out if name not in trained]
    if unknown:
        raise UserError(
            f"validation.data: it has the class {unknown[0]!r}, which is not trained on; known are "
            f"{', '.join(trained[:20])}{', ...' if len(trained) > 20 else ''}"
        )
    return [list(trained).index(name) for name in held_out]


def without_noise(encode: Encode | None) -> Encode | None:
    """An encoder that gives the posteriors' modes."""
    if not isinstance(encode, Encoder):
        return encode
    return replace(encode, config=encode.config.model_copy(update={"sample": False}))

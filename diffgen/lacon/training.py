"""What an aligner learns from: features of the frozen model at noisy pictures, and their maps."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn

from diffgen.data.hub import HubStream
from diffgen.data.order import Sample, TrainingData
from diffgen.data.source import ImageSource
from diffgen.lacon.conditions import Condition
from diffgen.lacon.maps import Mapped, has_own_maps
from diffgen.sampling.guided import Denoiser
from diffgen.sampling.noise import position_seeds
from diffgen.seeding import stream_generator
from diffgen.training.draws import draw
from diffgen.transfer import to_device


class MappedSample(Sample, total=False):
    """A training image, and its own map where the data has one."""

    map: Tensor
    """(1 or 3, H, W) as the data has it."""


class MappedData(TrainingData):
    """Samples by their number in the training, with the data's own maps where it has them."""

    def __init__(self, images: ImageSource | HubStream, seed: int, condition: Condition) -> None:
        super().__init__(images, seed)
        # The name alone, for workers: a condition may hold functions that cannot be pickled.
        self.stored = condition.stored if has_own_maps(images, condition) else None

    def __getitem__(self, number: int) -> MappedSample:
        sample = cast(MappedSample, super().__getitem__(number))
        if self.stored is not None:
            sample["map"] = self._maps(number)[self.stored]
        return sample

    def _maps(self, number: int) -> dict[str, Tensor]:
        """Those of the picture as it is augmented; of drawn ones, which are not, as they are."""
        index = self.order.index(number)
        if isinstance(self.images, AugmentedMaps):
            generator = stream_generator(self.seed, "augment", number)
            return self.images.augmented_maps(index, generator)
        assert isinstance(self.images, Mapped)
        return self.images.maps(index)


@runtime_checkable
class AugmentedMaps(Protocol):
    """Images whose own maps are augmented as they are."""

    def augmented_maps(self, index: int, generator: torch.Generator, /) -> dict[str, Tensor]:
        """By name, as ``Augmented.augmented`` shows image ``index`` with such a generator."""


@dataclass(frozen=True)
class Reader:
    """From pictures to what the model sees of them, and to the maps at that size."""

    condition: Condition
    device: torch.device
    encode: Callable[[Tensor], Tensor] | None = None
    """Pictures (B, 3, H, W) to latents (B, C, h, w); None: the model sees pixels."""

    def __call__(self, pictures: Tensor, stored: Tensor | None) -> tuple[Tensor, Tensor]:
        """``pictures`` (B, 3, H, W) in [-1, 1] -> x0 (B, C, h, w) and maps (B, channels, h, w).

        ``stored``: the data's own maps (B, 1 or 3, H, W); None: they are found in the pictures, the
        whole batch at once, which is many times faster than one by one.
        """
        pictures = pictures.to(self.device, non_blocking=True)
        maps, x0 = self.maps(pictures, stored), self.seen(pictures)
        return x0, self.condition.shrink(maps, (x0.shape[-2], x0.shape[-1]))

    def maps(self, pictures: Tensor, stored: Tensor | None) -> Tensor:
        """(B, channels, H, W) of ``pictures`` on the device."""
        with torch.autocast(self.device.type, enabled=False):  # bf16 would move the edges
            if stored is None:
                return self.condition.of(pictures)
            return self.condition.from_stored(stored.to(self.device, non_blocking=True))

    def seen(self, pictures: Tensor) -> Tensor:
        """What the model sees of ``pictures`` on the device."""
        with torch.autocast(self.device.type, enabled=False):
            return pictures if self.encode is None else self.encode(pictures)


@dataclass(frozen=True)
class AlignerObjective:
    """The loss of a batch; all randomness in it is a function of (seed, sample number)."""

    denoiser: Denoiser
    """The frozen model."""
    reader: Reader
    blocks: tuple[int, ...]
    """Whose features the aligner looks at."""
    labels: Tensor
    """(classes of the data,) int64, the model's label of each."""
    seed: int
    class_dropout: float
    """Share of labels replaced by the null class."""
    low: float
    """Smallest time."""

    def draw_time(self, generator: torch.Generator) -> Tensor:
        """A time, uniform in [low, 1), as a 0-d fp32 tensor."""
        return self.low + (1 - self.low) * torch.rand((), generator=generator)

    def __call__(self, model: nn.Module, batch: Sample) -> Tensor:
        """Mean over the pictures and the places of their maps, 0-d fp32; ``model``: the aligner."""
        numbers = torch.as_tensor(batch["number"]).tolist()
        x0, wanted = self.reader(batch["image"], cast(MappedSample, batch).get("map"))
        drawn = draw(self.draw_time, self.seed, numbers, tuple(x0.shape[1:]), "aligner")
        t, drop, eps = (to_device(part, x0.device) for part in drawn)
        labels = to_device(self.labels[torch.as_tensor(batch["label"])], x0.device)
        labels = labels.masked_fill(drop < self.class_dropout, self.denoiser.model.num_classes)
        x_t = self.denoiser.process.add_noise(x0, eps, t)
        denoiser = with_positions(self.denoiser, self.seed, numbers)
        with torch.no_grad():
            _, seen = denoiser.observed(x_t, t, labels, None, self.blocks)
        predicted = model(seen).float()
        return self.reader.condition.loss(predicted, wanted).mean() / wanted[0].numel()


def with_positions(denoiser: Denoiser, seed: int, numbers: list[int]) -> Denoiser:
    """``denoiser`` with what its encoding draws for samples ``numbers``, as sampling draws it."""
    if not denoiser.model.encoding.draws_always:
        return denoiser
    return denoiser._replace(position_seeds=position_seeds(numbers, seed))


def model_labels(
    data: Sequence[str], model: Sequence[str], num_classes: int
) -> tuple[list[int], bool]:
    """The model's label of each class of the data, and whether they are its classes at all.

    Args:
        data: names of the data's classes.
        model: names of the model's classes; of one that names none, as many classes as the data has
            are the data's, by their numbers.
        num_classes: of the model; 0: it knows no classes.

    Returns:
        The null class for all, and False, where a class of the data is none of the model's.
    """
    if set(data) <= set(model):
        return [list(model).index(name) for name in data], True
    if not model and len(data) == num_classes:
        return list(range(len(data))), True
    return [num_classes] * len(data), num_classes == 0


def image_std(x0: Tensor) -> float:
    """Standard deviation of pictures (N, C, h, w) about the mean of each channel."""
    return float((x0 - x0.mean(dim=(0, 2, 3), keepdim=True)).square().mean().sqrt())

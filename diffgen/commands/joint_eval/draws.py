"""How images are drawn from maps and with them, each way for ``Plan.draw``."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from diffgen.commands.load import Loaded
from diffgen.config.evaluate import EvaluateConfig
from diffgen.data.pixels import to_uint8
from diffgen.errors import UserError
from diffgen.guidance import build_rule
from diffgen.joint.channels import draw_from_channels
from diffgen.joint.maps import as_picture
from diffgen.joint.pictures import IMAGE, Given
from diffgen.joint.pipeline import JointPipeline
from diffgen.lacon.conditions import Condition
from diffgen.models.dit import DiT
from diffgen.sampling.batches import Batch, set_up
from diffgen.sampling.rules import rule_for


@dataclass(frozen=True)
class Jointly:
    """By a joint model."""

    joint: JointPipeline
    given: Mapping[str, Tensor]
    """What is known, by "image" or condition, of N pictures; image n is drawn from the n-th."""
    shown: Sequence[str]
    """Of what is drawn, these, below each other, maps as pictures."""

    def __call__(
        self,
        loaded: Loaded,
        config: EvaluateConfig,
        labels: Mapping[int, int],
        size: tuple[int, int],
        batches: Sequence[range],
    ) -> Iterator[Batch]:
        """See ``commands.drawing.Draw``."""
        set_up(self.joint.pipe, config)
        for numbers in map(list, batches):
            chosen = torch.tensor([labels[n] for n in numbers])
            found = self.joint(
                chosen,
                *size,
                num_inference_steps=config.steps,
                guidance=build_rule(config.guidance),
                seed=config.seed,
                image_numbers=numbers,
                given={name: Given(of(maps, numbers)) for name, maps in self.given.items()},
                time_shift=config.time_shift,
                decode_batch_size=config.decode_batch_size,
                decode_tiled=config.decode_tiled,
            )
            rows = [
                found.images
                if name == IMAGE
                else as_picture(found.conditions[name], self.joint.conditions[name])
                for name in self.shown
            ]
            yield quantised(numbers, chosen, torch.cat(rows, dim=-2))


@dataclass(frozen=True)
class ByChannels:
    """By a model that gets maps in further channels."""

    model: DiT
    condition: Condition
    maps: Tensor
    """(N, channels, H, W); image n is drawn from the n-th."""

    def __call__(
        self,
        loaded: Loaded,
        config: EvaluateConfig,
        labels: Mapping[int, int],
        size: tuple[int, int],
        batches: Sequence[range],
    ) -> Iterator[Batch]:
        """See ``commands.drawing.Draw``."""
        pipe = loaded.pipe
        set_up(pipe, config)
        self.model.use_position(config)
        for numbers in map(list, batches):
            chosen = torch.tensor([labels[n] for n in numbers])
            x0 = draw_from_channels(
                pipe,
                self.model,
                as_picture(of(self.maps, numbers), self.condition),
                chosen,
                rule_for(pipe, chosen, build_rule(config.guidance), 1.0, None),
                numbers=numbers,
                seed=config.seed,
                steps=config.steps,
                time_shift=config.time_shift,
            )
            images = pipe.decode(x0, config.decode_batch_size, config.decode_tiled)
            yield quantised(numbers, chosen, images)


@dataclass(frozen=True)
class AsDrawn:
    """Images that are drawn already."""

    images: Tensor
    """(N, 3, H, W) uint8."""

    def __call__(
        self,
        loaded: Loaded,
        config: EvaluateConfig,
        labels: Mapping[int, int],
        size: tuple[int, int],
        batches: Sequence[range],
    ) -> Iterator[Batch]:
        """See ``commands.drawing.Draw``."""
        for numbers in map(list, batches):
            yield Batch(numbers, torch.tensor([labels[n] for n in numbers]), self.images[numbers])


def of(maps: Tensor, numbers: Sequence[int]) -> Tensor:
    """Those of images ``numbers``, which go through ``maps`` in turn."""
    return maps[[n % len(maps) for n in numbers]]


def quantised(numbers: list[int], labels: Tensor, pictures: Tensor) -> Batch:
    """``pictures`` (B, 3, H, W) in [-1, 1] as they are scored.

    Raises:
        UserError: they are not finite.
    """
    if not bool(pictures.isfinite().all()):
        raise UserError(
            "the drawn images are not finite: guidance is too strong for this model, or its "
            "weights, or those beside it, are damaged"
        )
    return Batch(numbers, labels, to_uint8(pictures).cpu())

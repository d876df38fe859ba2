"""The loss of one batch, with randomness that belongs to the samples."""

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from diffgen.config.route import RouteConfig
from diffgen.data.order import Sample
from diffgen.models.route import Route, draw_route
from diffgen.processes import Process
from diffgen.processes.process import Model
from diffgen.seeding import stream_generator
from diffgen.training.draws import draw
from diffgen.training.mixed import mixed_losses
from diffgen.transfer import to_device


class Encode(Protocol):
    """Images (B, 3, H, W) of the samples with these numbers -> what the model sees of them.

    ``noise``: of their posteriors, where it is drawn already; None: it is drawn if it is wanted.
    """

    def __call__(
        self, images: Tensor, numbers: list[int], noise: Tensor | None = None
    ) -> Tensor: ...


@dataclass(frozen=True)
class Objective:
    """The loss of a batch; all randomness in it is a function of (seed, sample number)."""

    process: Process
    seed: int
    null_label: int
    """0: the model is unconditional."""
    class_dropout: float
    """Share of labels replaced by the null class."""
    device: torch.device
    encode: Encode | None = None
    """Images to latents; None: the model sees pixels."""
    patch: int = 1
    """Side of a token [the model's pixels]; for batches of mixed sizes."""
    padded: bool = False
    """Pad batches of mixed sizes to their longest image; no: pack them."""
    crop: bool = False
    """The model gets the crops of the images."""
    micro_dropout: float | None = None
    """Share of images whose crop is not embedded; None: the model embeds none."""
    share_positions: int | None = None
    """So many consecutive samples share what their encoding draws; None: it draws nothing."""
    route: RouteConfig | None = None
    """Tokens that skip blocks, of images of one size; None: none does."""
    depth: int = 0
    """Blocks of the model; for ``route``."""

    def __call__(self, model: Model, batch: Sample) -> Tensor:
        """Mean over the images, 0-d fp32; ``model`` as for ``Process.loss``."""
        numbers = torch.as_tensor(batch["number"]).tolist()
        images = batch["image"]
        if isinstance(images, Tensor):
            x0 = self._seen(images, numbers, batch.get("posterior"))
            t, drop, eps = self._loaded(batch) or self._drawn(numbers, x0.shape[1:])
            y, told = self._labels(batch, drop), self._told(batch, numbers, images, x0)
            if self.route is not None:
                told["route"] = self._route(self.route, numbers, x0)
            return self.process.loss(model, x0, eps, t, y, **told).mean()
        each = [self._seen(z[None], [n])[0] for z, n in zip(images, numbers, strict=True)]
        drawn = [self._drawn([n], x0.shape) for n, x0 in zip(numbers, each, strict=True)]
        t, drop = (torch.cat([one[i] for one in drawn]) for i in (0, 1))
        eps = [one[2][0] for one in drawn]
        y, told = self._labels(batch, drop), self._told(batch, numbers, images[0], each[0])
        losses = mixed_losses(self.process, model, each, eps, t, y, self.patch, self.padded, **told)
        return losses.mean()

    def _seen(self, images: Tensor, numbers: list[int], noise: Tensor | None = None) -> Tensor:
        """What the model sees of ``images`` (B, 3, H, W); ``noise``: as for ``Encode``."""
        images = images.to(self.device, non_blocking=True)
        return images if self.encode is None else self.encode(images, numbers, noise)

    def _loaded(self, batch: Sample) -> list[Tensor] | None:
        """What ``_drawn`` gives, if it was drawn where the batch was loaded."""
        if "eps" not in batch:
            return None
        return [to_device(part, self.device) for part in (batch["t"], batch["drop"], batch["eps"])]

    def _drawn(self, numbers: list[int], shape: tuple[int, ...]) -> list[Tensor]:
        drawn = draw(self.process.draw_time, self.seed, numbers, shape)
        return [to_device(part, self.device) for part in drawn]

    def _labels(self, batch: Sample, drop: Tensor) -> Tensor:
        labels = to_device(torch.as_tensor(batch["label"]), self.device)
        if self.null_label == 0:  # unconditional: the data's labels mean nothing to the model
            labels = torch.zeros_like(labels)
        return torch.where(drop < self.class_dropout, self.null_label, labels)

    def _told(self, batch: Sample, numbers: list[int], image: Tensor, x0: Tensor) -> dict[str, Any]:
        """What the model gets besides time and label; ``image`` and ``x0`` tell their scale."""
        told: dict[str, Any] = {}
        if self.micro_dropout is not None:
            drops = [torch.rand((), generator=self._stream("micro", n)) for n in numbers]
            told["told"] = to_device(torch.stack(drops), self.device) >= self.micro_dropout
        if self.crop:
            told["crop"] = to_device(batch["crop"], self.device) * (x0.shape[-1] / image.shape[-1])
        if self.share_positions is not None:
            draws = [n // self.share_positions for n in numbers]
            told["generator"] = [self._stream("positions", n) for n in draws]
        return told

    def _route(self, config: RouteConfig, numbers: list[int], x0: Tensor) -> Route:
        tokens = x0.shape[-2] // self.patch * (x0.shape[-1] // self.patch)
        bounds = config.bounds(self.depth)
        return draw_route(self.seed, numbers, tokens, config.share, *bounds).to(self.device)

    def _stream(self, name: str, number: int) -> torch.Generator:
        return stream_generator(self.seed, name, number)

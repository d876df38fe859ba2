"""Encoding the images of one file of latents."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from diffgen.data.images import DamagedImage
from diffgen.data.prepared_images import Picture, PreparedImages
from diffgen.data.prepared_plan import Shard
from diffgen.data.shards import CROP, INDEX, LABEL, MOMENTS
from diffgen.data.workers import Packed, Watched, pack, unpack
from diffgen.errors import UserError
from diffgen.group import cut
from diffgen.signals import ignore_in_worker

SKIP = "(on_error skip passes over such images)"


def _packed(answers: list[Picture | UserError]) -> tuple[Packed, list[Any]]:
    """A batch for its way from a worker: the images, then all else."""
    images = pack([answer.image for answer in answers if isinstance(answer, Picture)])
    return images, [answer[1:] if isinstance(answer, Picture) else answer for answer in answers]


def _unpacked(packed: Packed, rest: list[Any]) -> list[Picture | UserError]:
    images = iter(unpack(packed))
    return [one if isinstance(one, UserError) else Picture(next(images), *one) for one in rest]


@dataclass(frozen=True)
class Encoding:
    """How images become what is stored of them."""

    posterior: Callable[[Tensor], Tensor]
    """(B, 3, H, W) in [-1, 1] -> (B, 2C, h, w) fp32: means, then standard deviations."""
    channels: int
    """C."""
    factor: int
    """Image pixels to a latent pixel."""
    batch_size: int
    dtype: torch.dtype
    """Of the stored moments."""
    flip: bool
    """Encode the mirrored image too."""
    skip: bool
    """Leave damaged images out; no: refuse them."""
    workers: int = 0
    """Processes that read images."""

    def encode(
        self, source: PreparedImages, shard: Shard, tick: Callable[[int], object]
    ) -> tuple[dict[str, Tensor], dict[int, str]]:
        """The tensors of ``shard``, see ``diffgen.data.shards``, and which images are damaged.

        The images of a batch are a function of the shard alone. ``tick`` gets their number as each
        batch is done.

        Raises:
            UserError: an image is damaged and not to be skipped, or ``dtype`` is too narrow.
        """
        variants, (height, width) = 1 + self.flip, shard.size
        moments = torch.empty(
            (len(shard), variants, 2 * self.channels, height, width), dtype=self.dtype
        )
        label, index = torch.empty(2, len(shard), dtype=torch.int64)
        crop = torch.empty(len(shard), variants, 4)
        damaged: dict[int, str] = {}
        done = 0
        for batch, numbers in self._batches(source, shard, damaged):
            stop = done + len(batch)
            index[done:stop] = torch.tensor(numbers, dtype=torch.int64)
            label[done:stop] = torch.tensor([picture.label for picture in batch])
            for variant in range(variants):
                moments[done:stop, variant] = self._moments(batch, numbers, variant == 1)
                crop[done:stop, variant] = self._crops(batch, variant == 1)
            tick(len(batch))
            done = stop
        tick(len(damaged))
        tensors = {MOMENTS: moments, LABEL: label, INDEX: index, CROP: crop}
        return {name: tensor[:done] for name, tensor in tensors.items()}, damaged

    def _batches(
        self, source: PreparedImages, shard: Shard, damaged: dict[int, str]
    ) -> Iterator[tuple[list[Picture], list[int]]]:
        """The sound images of every batch and their numbers; the others go into ``damaged``."""
        batches = [
            [int(n) for n in shard.numbers[part.start : part.stop]]
            for part in cut(len(shard), self.batch_size)
        ]
        loader: DataLoader[Picture | UserError] = DataLoader(
            source,
            batch_sampler=batches,
            num_workers=self.workers,
            collate_fn=_packed,
            worker_init_fn=ignore_in_worker,
        )
        size = (shard.size[0] * self.factor, shard.size[1] * self.factor)
        watched = Watched(loader, "workers", "vae.batch_size", "the same command goes on")
        for numbers, sent in zip(batches, watched, strict=True):
            answers = _unpacked(*sent)
            sound: dict[int, Picture] = {}
            for number, answer in zip(numbers, answers, strict=True):
                answer = source.checked(number, answer, size)
                if isinstance(answer, Picture):
                    sound[number] = answer
                elif not isinstance(answer, DamagedImage):
                    raise answer
                elif not self.skip:
                    raise DamagedImage(f"{answer} {SKIP}")
                else:
                    damaged[number] = str(answer)
            if sound:
                yield list(sound.values()), list(sound)

    def _moments(self, batch: list[Picture], numbers: list[int], mirrored: bool) -> Tensor:
        images = torch.stack([picture.image for picture in batch])
        found = self.posterior(images.flip(-1) if mirrored else images).cpu()
        finite = found.isfinite().flatten(1).all(dim=1)
        if not finite.all():
            number = numbers[int(finite.logical_not().nonzero()[0])]
            raise UserError(f"vae: its latents of image {number} are infinite or no numbers (NaN)")
        stored = found.to(self.dtype)
        if not stored.isfinite().all():
            name = str(self.dtype).removeprefix("torch.")
            raise UserError(f"dtype: {name} cannot hold the latents of this VAE; use float32")
        return stored

    def _crops(self, batch: list[Picture], mirrored: bool) -> Tensor:
        """(B, 4) fp32, in latent pixels."""
        parts = [
            picture.part.mirrored(picture.image.shape[-1]) if mirrored else picture.part
            for picture in batch
        ]
        return torch.tensor(parts, dtype=torch.float32) / self.factor

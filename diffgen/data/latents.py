"""Latents that ``prepare`` wrote, as a source of training images."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor

from diffgen.config.latent_index import AGAIN, LatentIndex
from diffgen.config.latents import LatentsConfig
from diffgen.data.fit import WHOLE, Limits, Part
from diffgen.data.shards import CROP, INDEX, LABEL, MOMENTS
from diffgen.data.subset import subset_indices
from diffgen.errors import UserError

READ = (MOMENTS, CROP, LABEL, INDEX)


class Latents:
    """Posteriors of latents by the number of their image, in the order of the images' source.

    Files are mapped into memory by each process for itself; of an image its own part is read.

    Raises:
        UserError: the folder is not whole, the subset reaches beyond it, or the latents do not fit
            ``limits``.
    """

    def __init__(self, config: LatentsConfig, limits: Limits = WHOLE) -> None:
        self.config = config
        self.index: LatentIndex = config.index
        self.flip = config.flips
        self.class_names = self.index.class_names
        self._mapped: dict[int, dict[str, Tensor]] = {}
        self._ends = np.cumsum([shard.count for shard in self.index.shards])
        self._check(limits)
        order = self._order()
        if config.subset is not None:
            kept = subset_indices(self.index.count, config.subset, config.subset_seed)
            order = np.array(kept) if order is None else order[kept]
        self._places: NDArray[np.int64] | None = order
        """Of the images among those of all shards in turn; None: they are in that order."""

    def __getstate__(self) -> dict[str, Any]:
        """For a worker, which maps the files for itself."""
        return {**self.__dict__, "_mapped": {}}

    def __len__(self) -> int:
        return self.index.count if self._places is None else len(self._places)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """(posterior (2C, h, w) fp32: means, then standard deviations; label), not mirrored."""
        moments, label, _ = self._read(index, variant=0)
        return moments, label

    def augmented(self, index: int, generator: torch.Generator) -> tuple[Tensor, int, Part]:
        """Like ``self[index]``, for half of the draws mirrored; and the part [latent pixels].

        The draw is the one that decides it where the images themselves are read.
        """
        mirrored = self.flip and bool(torch.rand((), generator=generator) < 0.5)
        return self._read(index, variant=int(mirrored))

    def _read(self, index: int, variant: int) -> tuple[Tensor, int, Part]:
        if not 0 <= index < len(self):
            raise IndexError(f"there is no image {index} among {len(self)}")
        place = index if self._places is None else int(self._places[index])
        number = int(np.searchsorted(self._ends, place, side="right"))
        row = place - int(self._ends[number]) + self.index.shards[number].count
        shard = self._shard(number)
        moments = shard[MOMENTS][row, variant].to(torch.float32, copy=True)
        return moments, int(shard[LABEL][row]), Part(*shard[CROP][row, variant].tolist())

    def _shard(self, number: int) -> dict[str, Tensor]:
        """The tensors of a shard, mapped by this process when it is first needed.

        They stay mapped: safetensors loses a few bytes for every tensor that it makes.
        """
        if number not in self._mapped:
            file = self.config.path / self.index.shards[number].file
            try:
                with safe_open(file, framework="pt") as stored:
                    self._mapped[number] = {name: stored.get_tensor(name) for name in READ}
            except (OSError, SafetensorError) as error:
                raise UserError(
                    f"data.path: {file} cannot be read ({error}); {AGAIN}, it mends the folder"
                ) from None
        return self._mapped[number]

    def _order(self) -> NDArray[np.int64] | None:
        """Places sorted by the number of the image; None: they are so already."""
        if len({(shard.height, shard.width) for shard in self.index.shards}) < 2:
            return None
        numbers = []
        for number in range(len(self.index.shards)):
            numbers.append(self._shard(number)[INDEX].numpy())
        return np.argsort(np.concatenate(numbers), kind="stable")

    def _check(self, limits: Limits) -> None:
        factor = self.index.vae.format.factor
        there = f"data.path: {self.config.path} holds latents of images of"
        for shard in self.index.shards:
            size = (shard.height * factor, shard.width * factor)
            if any(side % limits.multiple for side in size):
                raise UserError(
                    f"{there} {size[0]}x{size[1]}, no multiple of a token of {limits.multiple} "
                    "pixels; prepare them with the --patch-size of the model"
                )
            longest = limits.longest or size
            if size[0] > longest[0] or size[1] > longest[1]:
                reach = "{}x{}".format(*longest)
                raise UserError(
                    f"{there} {size[0]}x{size[1]}, beyond the {reach} that model.position reaches; "
                    f"prepare them with --longest {reach}, or widen it"
                )

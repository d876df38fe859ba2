"""Constraints by an aligner: from condition files to the maps it is to read."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffgen.commands.condition_files import (
    BLACK,
    ConditionFile,
    Size,
    fitted,
    grey_levels,
    picture,
    stored_map,
)
from diffgen.commands.condition_kinds import Target, at, own_size
from diffgen.errors import UserError
from diffgen.files import weights_digest
from diffgen.guidance.late import Loss
from diffgen.lacon.aligner import Aligner
from diffgen.lacon.conditions import Condition, averaged
from diffgen.lacon.load import load_aligner
from diffgen.lacon.losses import Aligned
from diffgen.lacon.named import condition_named, folder_name
from diffgen.pipeline import DiffGenPipeline


@dataclass(frozen=True)
class ByAligner:
    """A map that an aligner reads from the model's features."""

    pipe: DiffGenPipeline
    condition: Condition
    folder: Path
    aligner: Aligner
    from_pictures: bool
    """Files are pictures whose maps are found first."""
    where: ConditionFile | None = None
    """A grey image, how much each place counts."""
    weights: dict[Size, Tensor] = field(default_factory=dict, repr=False)
    """That image as it is used, at the sizes it has been asked for."""

    @classmethod
    def load(
        cls, pipe: DiffGenPipeline, name: str, folder: Path, from_pictures: bool
    ) -> "ByAligner":
        """The aligner of condition ``name`` in ``folder``.

        Raises:
            UserError: there is no such condition, or no aligner for it that fits the model.
        """
        condition = condition_named(name, "constraint")
        place = folder / folder_name(condition.name)
        aligner = load_aligner(place, pipe.transformer)
        stated = (aligner.config.condition, aligner.config.channels)
        if stated != (condition.name, condition.channels):
            raise UserError(
                f"constraint: {place} is an aligner for {stated[0]} of {stated[1]} channels, but "
                f"{condition.name} of {condition.channels} is asked for"
            )
        return cls(pipe, condition, place, aligner, from_pictures)

    def read(self, file: ConditionFile, size: Size) -> Target:
        """See Kind.read."""
        own = own_size(self.pipe, size)
        if self.from_pictures:
            maps = self.condition.shrink(self.condition.of(picture(file, size)), own)
        else:
            maps = fitted(stored_map(file, self.condition), self.condition.shrink, size, own)
        signed = 2 * maps - 1 if self.condition.binary else maps
        shown = signed[:, :3] if signed.shape[1] >= 3 else signed[:, :1]
        return Target(maps, self._weight(size), at(shown, size))

    def _weight(self, size: Size) -> Tensor:
        if size not in self.weights:
            self.weights[size] = self._read_weight(size)
        return self.weights[size]

    def _read_weight(self, size: Size) -> Tensor:
        own = own_size(self.pipe, size)
        if self.where is None:
            return torch.ones(1, 1, *own)
        weight = fitted(grey_levels(self.where, BLACK)[None] / 255, averaged, size, own)
        if not weight.any():
            raise UserError(f"{self.where.said} is black: no place would count")
        return weight

    def loss(self, wanted: Tensor, weight: Tensor) -> Loss:
        """See Kind.loss."""
        return Aligned(self.aligner, self.condition, wanted, weight)

    def note(self) -> dict[str, Any]:
        """See Kind.note."""
        return {
            "aligner": str(self.folder),
            "aligner_weights": weights_digest(self.folder / "aligner"),
            "unit": float(self.aligner.config.image_std),
            "from": "picture" if self.from_pictures else "map",
            "where": self.where and self.where.sha256,
        }

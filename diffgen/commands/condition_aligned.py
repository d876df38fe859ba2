"""Constraints by an aligner: from condition files to the maps it is to read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from diffgen.commands.condition_files import (
    BLACK,
    ConditionFile,
    fitted,
    grey_levels,
    picture,
    stored_map,
)
from diffgen.commands.condition_kinds import Kind, Target, at, own_size
from diffgen.config.constraints import ConstraintsConfig
from diffgen.errors import UserError
from diffgen.files import weights_digest
from diffgen.guidance.late import Loss
from diffgen.lacon.aligner import Aligner
from diffgen.lacon.conditions import Condition, averaged
from diffgen.lacon.load import ending, load_aligner
from diffgen.lacon.losses import Aligned
from diffgen.lacon.named import condition_named
from diffgen.pipeline import DiffGenPipeline


@dataclass(frozen=True)
class ByAligner(Kind):
    """A map that an aligner reads from the model's features."""

    condition: Condition
    folder: Path
    aligner: Aligner
    from_pictures: bool
    """Files are pictures whose maps are found first."""
    weights: Mapping[tuple[int, int], Tensor]
    """(1, 1, h, w), how much each place counts, by the model's own size; {}: everywhere alike."""

    @classmethod
    def load(
        cls,
        pipe: DiffGenPipeline,
        name: str,
        place: Path,
        config: ConstraintsConfig,
        sizes: Sequence[tuple[int, int]],
    ) -> "ByAligner":
        """The aligner of condition ``name`` in ``place``, for samples of ``sizes``.

        Raises:
            UserError: there is no such condition, or no aligner for it that fits the model, or
                constraint_where cannot be used.
        """
        condition = condition_named(name, "constraint")
        folder = place / condition.name
        aligner = load_aligner(folder, pipe.transformer, condition=condition)
        where, weights = None, {}
        if config.constraint_where is not None:
            where = ConditionFile.read(config.constraint_where, "constraint_where: ")
            owns = {size: own_size(pipe, size) for size in sizes}
            weights = {
                own: place_weight(where, size, own).to(pipe.device) for size, own in owns.items()
            }
        notes = {
            "aligner": str(folder),
            "aligner_weights": weights_digest(folder / "aligner"),
            "unit": float(aligner.config.image_std),
            "from": config.constraint_from,
            "where": where and where.sha256,
        }
        form, from_pictures = config.constraint_form, config.constraint_from == "picture"
        return cls(pipe, form, notes, condition, folder, aligner, from_pictures, weights)

    def until(self, asked: float | None) -> float:
        """See Kind.until."""
        return ending(self.aligner.config, asked, "constraint_until", self.folder)

    def read(self, file: ConditionFile, size: tuple[int, int]) -> Target:
        """See Kind.read."""
        own = own_size(self.pipe, size)
        if self.from_pictures:
            maps = self.condition.shrink(self.condition.of(picture(file, size)), own)
        else:
            maps = fitted(stored_map(file, self.condition), self.condition.shrink, size, own)
        return Target(maps, at(2 * maps - 1 if self.condition.binary else maps, size))

    def loss(self, wanted: Tensor) -> Loss:
        """See Kind.loss."""
        height, width = wanted.shape[-2:]
        return Aligned(self.aligner, self.condition, wanted, self.weights.get((height, width)))


def place_weight(where: ConditionFile, size: tuple[int, int], own: tuple[int, int]) -> Tensor:
    """How much each place counts, (1, 1, *own) in [0, 1], to samples of ``size``.

    Raises:
        UserError: the image is damaged, coloured or black.
    """
    weight = fitted(grey_levels(where, BLACK)[None] / 255, averaged, size, own)
    if not weight.any():
        raise UserError(f"{where.said} is black: no place would count")
    return weight

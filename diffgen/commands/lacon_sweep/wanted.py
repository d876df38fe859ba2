"""What images shall match, and how well they do: maps of held-out pictures."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from diffgen.commands.real_images import Part
from diffgen.commands.real_sets import Reference
from diffgen.data.pixels import from_uint8, to_uint8
from diffgen.data.shapes import Shapes
from diffgen.errors import UserError
from diffgen.group import cut
from diffgen.lacon.conditions import Condition
from diffgen.metrics.reader import Reader

SEEN = ("mask", "depth")
"""Maps of the data that the embedded reader reads from pictures."""
BY_READER = "the embedded reader"
BY_RULE = "the condition's own rule, on 8-bit pictures"
BATCH = 64
"""Pictures that are read at once."""


@dataclass(frozen=True)
class Wanted:
    """Pictures that images shall match in turn; beyond their end from the start again."""

    part: Part

    def pictures(self, numbers: Iterable[int]) -> Tensor:
        """(B, 3, H, W) fp32 in [-1, 1]."""
        return torch.stack([self.part.source[self._place(n)][0] for n in numbers])

    def has(self, condition: Condition) -> bool:
        """True where the data itself brings the maps."""
        return condition.stored is not None and isinstance(self.part.source, Shapes)

    def maps(self, condition: Condition, numbers: Sequence[int]) -> Tensor:
        """(B, channels, H, W) the data's own maps where there are any, else found in the pictures.

        Raises:
            UserError: they can be had in neither way.
        """
        source, stored = self.part.source, condition.stored
        if stored is None or not isinstance(source, Shapes):
            return condition.of(self.pictures(numbers))
        maps = [source.maps(self._place(n))[stored] for n in numbers]
        return condition.from_stored(torch.stack(maps))

    def _place(self, number: int) -> int:
        return self.part.numbers[number % len(self.part)]


def wanted_pictures(reference: Reference, name: str, count: int) -> Wanted:
    """The real pictures, ``count`` at most, that no distance is taken to.

    Args:
        reference: what images are scored against.
        name: of it, for complaints.

    Raises:
        UserError: there are none beside it.
    """
    if reference.images is None:
        raise UserError(f"reference: {name} holds statistics alone; conditions need pictures")
    if reference.other is None:
        raise UserError(
            f"reference: {name} leaves no pictures for conditions: its statistics are of all of "
            "its images; give a folder or an .npz without statistics"
        )
    return Wanted(reference.other.first(count))


@dataclass(frozen=True)
class Judge:
    """Reads conditions from pictures, with no weight of any aligner."""

    wanted: Wanted
    reader: Reader

    def sees(self, condition: Condition) -> bool:
        """True where the embedded reader reads it: it knows two of the maps that data brings."""
        return condition.stored in SEEN and self.wanted.has(condition)

    def named(self, condition: Condition) -> str:
        """Who reads it, in words."""
        return BY_READER if self.sees(condition) else BY_RULE

    @torch.no_grad()
    def found(self, condition: Condition, pictures: Tensor) -> Tensor:
        """The maps (B, channels, H, W) in ``pictures`` (B, 3, H, W) uint8."""
        if not self.sees(condition):
            return condition.of(from_uint8(pictures))
        device = next(self.reader.parameters()).device
        seen = self.reader(from_uint8(pictures.to(device)))
        maps = {"mask": seen.mask.sigmoid(), "depth": seen.depth}
        return condition.from_stored(maps[str(condition.stored)].cpu())

    def fidelity(self, condition: Condition, pictures: Tensor) -> list[float]:
        """How well picture k of (N, 3, H, W) uint8 meets map k, for each."""
        values: list[float] = []
        for numbers in cut(len(pictures), BATCH):
            found = self.found(condition, pictures[numbers.start : numbers.stop])
            maps = self.wanted.maps(condition, numbers)
            values += condition.fidelity.measure(found, maps).tolist()
        return values

    def ceiling(self, condition: Condition, count: int) -> list[float]:
        """How well the first ``count`` real pictures meet their own maps."""
        parts = [to_uint8(self.wanted.pictures(numbers)) for numbers in cut(count, BATCH)]
        return self.fidelity(condition, torch.cat(parts))

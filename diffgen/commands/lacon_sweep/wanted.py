"""What images shall match: maps of held-out pictures, and how well they do."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from diffgen.commands.real_sets import open_reference
from diffgen.config.evaluate import EvaluateConfig
from diffgen.config.lacon_sweep import LaconSweepConfig
from diffgen.config.stored import read_json
from diffgen.data.pixels import from_uint8, to_uint8
from diffgen.errors import UserError
from diffgen.group import cut
from diffgen.lacon.conditions import Condition
from diffgen.lacon.load import ending
from diffgen.lacon.maps import has_own_maps, maps_of
from diffgen.lacon.named import condition_named
from diffgen.metrics.reader import MIN_SIDE, Reader

SEEN = ("mask", "depth")
"""Maps of the data that the embedded reader reads from pictures."""
AGAIN = 64
"""Images that are drawn once more: with other noise, and under another picture's map."""
BATCH = 64
"""Pictures that are read at once."""


@dataclass(frozen=True)
class Asked:
    """A condition, its maps of N pictures, and what is to bring images to them."""

    condition: Condition
    maps: Tensor
    """(N, channels, H, W)."""
    own: bool
    """They are the data's own."""
    folder: Path
    """Of the aligner, or the adapter."""

    @property
    def by_reader(self) -> bool:
        """Whether the embedded reader reads it: it knows two of the maps that data brings."""
        large = min(self.maps.shape[-2:]) >= MIN_SIDE
        return self.own and self.condition.stored in SEEN and large

    @property
    def read_by(self) -> str:
        """Who reads it from pictures, in words."""
        rule = "the condition's own rule, on 8-bit pictures"
        return "the embedded reader" if self.by_reader else rule

    @cached_property
    def digest(self) -> str:
        """sha256 of the maps."""
        return sha256(self.maps.contiguous().numpy().tobytes()).hexdigest()

    @cached_property
    def aligner(self) -> str:
        """sha256 of the aligner's files: a trained one differs from all others."""
        return files_digest(self.folder / "aligner")

    @torch.no_grad()
    def found(self, pictures: Tensor, reader: Reader) -> Tensor:
        """The maps (B, channels, H, W) in ``pictures`` (B, 3, H, W) uint8."""
        if not self.by_reader:
            return self.condition.of(from_uint8(pictures))
        device = next(reader.parameters()).device
        seen = reader(from_uint8(pictures.to(device)))
        maps = {"mask": seen.mask.sigmoid(), "depth": seen.depth}
        return self.condition.from_stored(maps[str(self.condition.stored)].cpu())

    def fidelity(self, pictures: Tensor, reader: Reader) -> list[float]:
        """How well picture k of (n, 3, H, W) uint8 meets map k, for each; n at most N."""
        values: list[float] = []
        for rows in cut(len(pictures), BATCH):
            part = slice(rows.start, rows.stop)
            found = self.found(pictures[part], reader)
            values += self.condition.fidelity.measure(found, self.maps[part]).tolist()
        return values


class Wanted(NamedTuple):
    """Held-out pictures, and what is asked for of each."""

    pictures: Tensor
    """(N, 3, H, W) uint8."""
    size: str
    """HEIGHTxWIDTH."""
    conditions: Mapping[str, Asked]
    """By the names they were asked for by."""


def files_digest(folder: Path) -> str:
    """sha256 of the files in a folder."""
    files = sorted(path for path in folder.iterdir() if path.is_file())
    content = b"".join(path.name.encode() + path.read_bytes() for path in files)
    return sha256(content).hexdigest()


def read_wanted(config: LaconSweepConfig) -> Wanted:
    """The maps of the pictures, and the folders of the aligners.

    Raises:
        UserError: see ``wanted_of``; an aligner is missing, or a constraint would never act.
    """

    def folder(condition: Condition) -> Path:
        place = config.aligner_folder() / condition.name
        missing = f"{place} holds no aligner; train/lacon.py trains one"
        stated = read_json(place / "aligner" / "config.json", "conditions", missing)
        ending(stated, config.until, "until", place)  # refuses what cannot act
        return place

    free = config.cell(config.steps[0], config.seeds[0], {})
    return wanted_of(free, config.conditions, folder)


def wanted_of(
    free: EvaluateConfig, names: Sequence[str], folder_of: Callable[[Condition], Path]
) -> Wanted:
    """The maps of the real pictures, ``num_images`` at most, that no distance is taken to.

    Args:
        free: the evaluation of unguided images.
        names: of the conditions.
        folder_of: where that lies which brings images to a condition; it may refuse it.

    Raises:
        UserError: there are no such pictures or maps, a condition is missing, or two have one name.
    """
    size = free.picture_size()
    part = open_reference(free, size).other
    if part is None:
        raise UserError(
            f"reference: {free.reference} leaves no pictures for conditions beside those of FID; "
            "give a folder, or an .npz of pictures without statistics"
        )
    part = part.first(free.num_images)
    batches = [[part.numbers[k] for k in rows] for rows in cut(len(part), BATCH)]
    asked: dict[str, Asked] = {}
    for name in names:
        condition = condition_named(name, "conditions")
        if any(condition.name == one.condition.name for one in asked.values()):
            raise UserError(f"conditions: two are called {condition.name!r}; give one a name")
        folder = folder_of(condition)
        maps = torch.cat([maps_of(part.source, numbers, condition) for numbers in batches])
        asked[name] = Asked(condition, maps, has_own_maps(part.source, condition), folder)
    pictures = [torch.stack([part.source[n][0] for n in numbers]) for numbers in batches]
    return Wanted(to_uint8(torch.cat(pictures)), size, asked)

"""What joint drawings are given as the command uses it: read from files, by image numbers."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffgen.commands.condition_files import (
    BLACK,
    ConditionFile,
    fitted,
    grey_levels,
    picture,
    stored_map,
)
from diffgen.commands.condition_kinds import own_size
from diffgen.config.base import parse_size
from diffgen.config.joint_given import Request, taken_in_turn
from diffgen.config.joint_sample import JointSampleConfig
from diffgen.errors import UserError
from diffgen.joint.course import Course
from diffgen.joint.pictures import Given, as_pil, wholly
from diffgen.joint.pipeline import JointPipeline
from diffgen.lacon.conditions import Condition
from diffgen.pipeline import DiffGenPipeline
from diffgen.sampling.sheet import SHOWN, Row

FINDING = "--given-from picture"


@dataclass(frozen=True)
class GivenFiles:
    """One of what a run is given; image k takes file k modulo their number, and mask likewise.

    Files are read when they are needed: there may be more than the memory holds.
    """

    request: Request
    condition: Condition | None
    """None: of images."""
    finds: bool
    """Files are pictures whose maps are found first."""
    files: dict[Path, str]
    """Each with its sha256."""
    masks: dict[Path, str]

    @classmethod
    def check(
        cls,
        request: Request,
        condition: Condition | None,
        config: JointSampleConfig,
        joint: JointPipeline,
        sizes: Sequence[str],
    ) -> "GivenFiles":
        """Read every file once, for each of the ``sizes``.

        Raises:
            UserError: a file cannot be used, or is a picture in which no map can be found.
        """
        count, masks = config.count(), request.known
        files = taken_in_turn(request.path, count)
        finds = condition is not None and config.given_from == "picture"
        if finds and condition is not None and condition.find is None:
            raise UserError(
                f"given_from: {request.name} cannot be found in pictures ({request.path}); give "
                "its map"
            )
        unread = cls(request, condition, finds, dict.fromkeys(files, ""), {})
        pixels = [parse_size(size) for size in sizes]
        return replace(
            unread,
            files={path: unread._checked(path, pixels) for path in files},
            masks={
                path: unread._checked_mask(path, pixels, joint.pipe)
                for path in ([] if masks is None else taken_in_turn(masks, count))
            },
        )

    def at(self, size: str, numbers: Sequence[int]) -> Given:
        """Of the images ``numbers``, drawn at ``size``."""
        pixels, level = parse_size(size), self.request.coarse
        maps = [self._maps(self._file(path), pixels) for path in in_turn(self.files, numbers)]
        if not self.masks:
            return Given(torch.cat(maps), Course(1 - level, 1))
        known = [kept(self._mask(path), pixels) for path in in_turn(self.masks, numbers)]
        return Given(torch.cat(maps), Course(1 - level, 1), torch.cat(known))

    def file(self, number: int) -> str:
        """The file that image ``number`` is given."""
        return str(in_turn(self.files, [number])[0])

    def row(self, size: str) -> Row:
        """The files as they were read, for a contact sheet; what is not known of them is grey."""
        count = min(max(len(self.files), len(self.masks)), SHOWN)
        given = self.at(size, range(count))
        maps = given.maps
        if given.known is not None:
            middle = 0.5 if self.condition is not None and self.condition.binary else 0.0
            maps = torch.where(given.known > 0, maps, middle)
        title = f"{self.request.name}, given: {self.request.path.name}"
        return Row(title, as_pil(maps, self.condition))

    def note(self) -> dict[str, Any]:
        """For settings.json: the files, and how they are taken."""
        return {
            "name": self.request.name,
            "files": {str(path): digest for path, digest in self.files.items()},
            "from": "picture" if self.finds else "map",
            "coarse": self.request.coarse,
        }

    def mask_note(self) -> dict[str, Any]:
        """For settings.json: the masks."""
        files = {str(path): digest for path, digest in self.masks.items()}
        return {"name": self.request.name, "files": files}

    def _checked(self, path: Path, sizes: Sequence[tuple[int, int]]) -> str:
        """The digest of a file, which can be read at ``sizes``."""
        file = self._file(path)
        for size in sizes:
            self._maps(file, size)
        return file.sha256

    def _checked_mask(
        self, path: Path, sizes: Sequence[tuple[int, int]], pipe: DiffGenPipeline
    ) -> str:
        """The digest of a mask, which keeps something of samples of each of the ``sizes``."""
        mask = self._mask(path)
        for size in sizes:
            if not wholly(kept(mask, size), own_size(pipe, size)).any():
                raise UserError(f"{mask.said} keeps no pixel of the model's as a whole")
        return mask.sha256

    def _file(self, path: Path) -> ConditionFile:
        file = ConditionFile.read(path, f"given: {self.request.name}=", FINDING)
        return unchanged(file, self.files.get(path))

    def _mask(self, path: Path) -> ConditionFile:
        file = ConditionFile.read(path, f"known: {self.request.name}=")
        return unchanged(file, self.masks.get(path))

    def _maps(self, file: ConditionFile, size: tuple[int, int]) -> Tensor:
        """(1, channels, *size), an image or a map in its condition's range."""
        if self.condition is None:
            return picture(file, size)
        if self.finds:
            return self.condition.of(picture(file, size))
        return fitted(stored_map(file, self.condition), self.condition.shrink, size, size)


def unchanged(file: ConditionFile, sha256: str | None) -> ConditionFile:
    """``file``; None or "": it is read for the first time.

    Raises:
        UserError: it had another digest then.
    """
    if sha256 and file.sha256 != sha256:
        raise UserError(f"{file.said} has changed since the drawing began; begin it again")
    return file


def in_turn(files: dict[Path, str], numbers: Sequence[int]) -> list[Path]:
    """The file of each of the images ``numbers``; a single one stands for all of them."""
    every = list(files)
    return every if len(every) == 1 else [every[k % len(every)] for k in numbers]


def kept(mask: ConditionFile, size: tuple[int, int]) -> Tensor:
    """(1, 1, *size), 1 where a mask is white, after resizing where it was white alone, else 0.

    Raises:
        UserError: it is damaged, coloured, or white or black everywhere.
    """
    white = (grey_levels(mask, BLACK)[None] > 127).float()
    if white.all() or not white.any():
        colour = "white" if white.any() else "black"
        raise UserError(
            f"{mask.said} is {colour} everywhere; white parts are kept, black ones drawn anew"
        )
    return (fitted(white, wholly, size, size) > 1 - 1e-5).float()

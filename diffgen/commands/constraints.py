"""Late constraints as the commands use them: read from files, for images by their numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from diffgen.commands.condition_aligned import ByAligner
from diffgen.commands.condition_files import ConditionFile
from diffgen.commands.condition_kinds import ByKnownPart, ByMeans, Kind
from diffgen.commands.load import Loaded
from diffgen.config.base import parse_size
from diffgen.config.constraints import Request, aligners_place
from diffgen.config.sample import SampleConfig
from diffgen.data.pixels import to_pil, to_uint8
from diffgen.guidance import Constraint
from diffgen.sampling.sheet import SHOWN, Row


@dataclass(frozen=True)
class Asked:
    """One constraint of a run; image k takes file k modulo their number."""

    request: Request
    kind: Kind
    until: float
    """The time it ends at."""
    files: Sequence[tuple[str, str]]
    """Path and sha256 of each."""
    targets: Mapping[str, Tensor]
    """(n, C, h, w) fp32, one a file, by the size of the samples."""
    pictures: Mapping[str, list[Image.Image]]
    """The first of them, as many as a contact sheet shows."""

    def at(self, size: str, numbers: Sequence[int]) -> Constraint:
        """Of the images ``numbers``, drawn at ``size``."""
        count = len(self.files)
        rows = [k % count for k in numbers] if count > 1 else [0]
        loss = self.kind.loss(self.targets[size][rows].to(self.kind.pipe.device))
        return Constraint(loss, self.request.scale, self.kind.form, self.until)

    def file(self, number: int) -> str:
        """The condition file of image ``number``."""
        return self.files[number % len(self.files)][0]

    def row(self, size: str) -> Row:
        """Its targets as a row of a contact sheet."""
        return Row(f"{self.request.name}: {self.request.path.name}", self.pictures[size])

    def note(self) -> dict[str, Any]:
        """For settings.json."""
        return {
            "name": self.request.name,
            "files": dict(self.files),
            "scale": self.request.scale,
            "until": self.until,
            "form": self.kind.form,
            **self.kind.notes,
        }


def read_constraints(config: SampleConfig, loaded: Loaded, sizes: Sequence[str]) -> list[Asked]:
    """Read what the images of each of the ``sizes`` shall match.

    Checkpointing, where it is asked for, is switched on in the model.

    Raises:
        UserError: a condition file or an aligner that cannot be used; see its message.
    """
    requests = config.requests()
    names = dict.fromkeys(request.name for request in requests)
    kinds = {name: read_kind(name, config, loaded, sizes) for name in names}
    if config.constraint_checkpointing:
        loaded.pipe.transformer.enable_gradient_checkpointing()
    count = config.num_images
    return [read_files(request, kinds[request.name], sizes, count) for request in requests]


def read_kind(name: str, config: SampleConfig, loaded: Loaded, sizes: Sequence[str]) -> Kind:
    """The kind of constraint ``name``. Raises UserError: see ``ByAligner.load``."""
    if name == "low_resolution":
        return ByMeans(loaded.pipe, "none", {})
    if name == "inpaint":
        return ByKnownPart(loaded.pipe, "none", {})
    place = aligners_place(config.aligners, loaded.source, config.source)
    return ByAligner.load(loaded.pipe, name, place, config, [parse_size(size) for size in sizes])


def read_files(request: Request, kind: Kind, sizes: Sequence[str], count: int) -> Asked:
    """One constraint of ``count`` images a size, its files read one after the other."""
    until, files = kind.until(request.until), list[tuple[str, str]]()
    targets: dict[str, list[Tensor]] = {size: [] for size in sizes}
    pictures: dict[str, list[Image.Image]] = {size: [] for size in sizes}
    for path in request.files(count):
        file = ConditionFile.read(path, f"constraint: {request.name}=")
        files.append((str(path), file.sha256))
        for size in sizes:
            target = kind.read(file, parse_size(size))
            targets[size].append(target.wanted)
            if len(files) <= SHOWN:
                pictures[size] += to_pil(to_uint8(target.shown))
    every = {size: torch.cat(parts) for size, parts in targets.items()}
    return Asked(request, kind, until, files, every, pictures)

"""Late constraints as the commands use them: read from files, for images by their numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor

from diffgen.commands.condition_aligned import ByAligner
from diffgen.commands.condition_files import ConditionFile
from diffgen.commands.condition_kinds import ByKnownPart, ByMeans, Kind, Target
from diffgen.commands.load import Loaded
from diffgen.config.base import parse_size
from diffgen.config.constraints import ON_X0, ConstraintsConfig, Wanted
from diffgen.data.pixels import to_pil, to_uint8
from diffgen.guidance import Constraint
from diffgen.guidance.late import Form
from diffgen.pipeline import DiffGenPipeline
from diffgen.sampling.batches import Constrain
from diffgen.sampling.sheet import SHOWN, Row


class Targets(NamedTuple):
    """What the files of a constraint ask of samples of one size, in the order of the files."""

    wanted: Tensor
    """(n, C, h, w) fp32."""
    weight: Tensor
    """(n, 1, h, w)."""
    pictures: list[Image.Image]
    """The first of them, as many as a contact sheet shows."""

    @classmethod
    def of(cls, parts: Sequence[Target]) -> "Targets":
        """All the files' together."""
        wanted, weight = (torch.cat([part[i] for part in parts]) for i in (0, 1))
        return cls(wanted, weight, [to_pil(to_uint8(part.shown))[0] for part in parts[:SHOWN]])


@dataclass(frozen=True)
class Asked:
    """One constraint of a run; image k takes file k modulo their number."""

    wanted: Wanted
    kind: Kind
    form: Form
    digests: Mapping[str, str]
    """sha256 of each file, by its path, in their order."""
    targets: Mapping[str, Targets]
    """By the size of the samples."""
    device: torch.device

    def at(self, size: str, numbers: Sequence[int]) -> Constraint:
        """Of the images ``numbers``, drawn at ``size``."""
        all_of, count = self.targets[size], len(self.digests)
        rows = [k % count for k in numbers] if count > 1 else [0]
        wanted, weight = (x[rows].to(self.device) for x in (all_of.wanted, all_of.weight))
        loss = self.kind.loss(wanted, weight)
        return Constraint(loss, self.wanted.scale, self.form, self.wanted.until)

    def file(self, number: int) -> str:
        """The condition file of image ``number``."""
        files = list(self.digests)
        return files[number % len(files)]

    def row(self, size: str) -> Row:
        """Its targets as a row of a contact sheet."""
        return Row(f"{self.wanted.name}: {self.wanted.path.name}", self.targets[size].pictures)

    def note(self) -> dict[str, Any]:
        """For settings.json."""
        constraint = self.at(next(iter(self.targets)), [0])
        until = constraint.loss.until if constraint.until is None else constraint.until
        return {
            "name": self.wanted.name,
            "files": dict(self.digests),
            "scale": constraint.scale,
            "until": until,
            "form": constraint.form,
            "shapes": {size: list(found.wanted.shape[1:]) for size, found in self.targets.items()},
            **self.kind.note(),
        }


@dataclass(frozen=True)
class Constraints:
    """All constraints of a run."""

    asked: Sequence[Asked] = ()

    def at(self, size: str) -> Constrain:
        """What images drawn at ``size`` shall match, by their numbers."""
        return lambda numbers: [one.at(size, numbers) for one in self.asked]


def read_constraints(
    config: ConstraintsConfig, loaded: Loaded, sizes: Sequence[str], count: int | None = None
) -> Constraints:
    """Read what ``count`` images of each of the ``sizes`` shall match; None: every file there is.

    Checkpointing, where it is asked for, is switched on in the model.

    Raises:
        UserError: a condition file or an aligner that cannot be used; see its message.
    """
    pipe, folder = loaded.pipe, config.aligner_folder(loaded.source)
    place, field = config.constraint_where, "constraint_where: "
    where = None if place is None else ConditionFile.read(place, field)
    kinds: dict[str, Kind] = {}
    for name in dict.fromkeys(wanted.name for wanted in config.wanted()):
        if name in ON_X0:
            kinds[name] = ByMeans(pipe) if name == "low_resolution" else ByKnownPart(pipe)
        else:
            from_pictures = config.constraint_from == "picture"
            aligned = ByAligner.load(pipe, name, folder, from_pictures)
            kinds[name] = replace(aligned, where=where)
    asked = [
        read_files(wanted, kinds[wanted.name], config.constraint_form, pipe, sizes, count)
        for wanted in config.wanted()
    ]
    if config.constraint_checkpointing:
        pipe.transformer.enable_gradient_checkpointing()
    return Constraints(asked)


def read_files(
    wanted: Wanted,
    kind: Kind,
    form: Form,
    pipe: DiffGenPipeline,
    sizes: Sequence[str],
    count: int | None,
) -> Asked:
    """One constraint, its files read one after the other; ``form``: of those with an aligner."""
    digests: dict[str, str] = {}
    parts: dict[str, list[Target]] = {size: [] for size in sizes}
    for path in wanted.files(count):
        file = ConditionFile.read(path, f"constraint: {wanted.name}=")
        digests[str(path)] = file.sha256
        for size, found in parts.items():
            target = kind.read(file, parse_size(size))
            seen = target.shown if len(found) < SHOWN else target.shown[:0]
            found.append(target._replace(shown=seen))
    targets = {size: Targets.of(found) for size, found in parts.items()}
    form = "none" if wanted.name in ON_X0 else form
    return Asked(wanted, kind, form, digests, targets, pipe.device)


def build_constraints(config: ConstraintsConfig, loaded: Loaded, size: str) -> Constrain:
    """What images drawn at ``size`` (HEIGHTxWIDTH) shall match, by their numbers.

    Raises:
        UserError: see ``read_constraints``.
    """
    return read_constraints(config, loaded, [size]).at(size)

"""What a joint sampling run draws: its pairs of pictures, the model, and what it is given."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffgen.commands.digests import settings_digest
from diffgen.commands.joint_given import GivenFiles
from diffgen.commands.joint_named import own_conditions, renamed
from diffgen.commands.load import Loaded
from diffgen.config.base import parse_size
from diffgen.config.joint_given import Request, adapters_place, taken_in_turn
from diffgen.config.joint_sample import JointSampleConfig
from diffgen.errors import UserError
from diffgen.files import weights_digest, write_file
from diffgen.group import cut
from diffgen.guidance import build_rule
from diffgen.joint.load import load_adapter
from diffgen.joint.pipeline import JointPipeline
from diffgen.sampling.batches import labels_in_turn, set_up
from diffgen.sampling.folder import SampleFolder
from diffgen.sampling.labels import file_name

LONGEST = 150
"""Of a given file's name in those that are written [bytes]; file systems take 255 in all."""


@dataclass(frozen=True)
class Pair:
    """One image of the run with its conditions: number ``k`` of its size."""

    name: str
    """Of its file in the folder of each branch."""
    size: str
    class_name: str
    label: int
    k: int

    def file(self, branch: str) -> Path:
        """Its picture of ``branch``, below the output folder."""
        return Path(self.size) / branch / self.name


@dataclass(frozen=True)
class Drawing:
    """What is drawn, and what with."""

    loaded: Loaded
    joint: JointPipeline
    config: JointSampleConfig
    """Names conditions of a user's own as they are called."""
    sizes: list[str]
    given: list[GivenFiles]
    batches: list[list[Pair]]
    adapters: list[dict[str, Any]]
    """What settings.json tells of each."""

    @property
    def pairs(self) -> list[Pair]:
        """Those of all batches."""
        return [pair for batch in self.batches for pair in batch]

    def files(self, pairs: list[Pair]) -> list[Path]:
        """Every file of ``pairs``."""
        return [pair.file(branch) for pair in pairs for branch in self.config.written()]

    def there(self, pair: Pair) -> bool:
        """Whether all its files are written."""
        folder = SampleFolder(self.config.out)
        return all(folder.has(file) for file in self.files([pair]))


def planned(asked: JointSampleConfig, loaded: Loaded) -> Drawing:
    """Load the adapters, read what is given, and deal all images out in batches.

    Raises:
        UserError: a condition, an adapter or a file that cannot be used.
    """
    set_up(loaded.pipe, asked)
    own = own_conditions(asked)
    config, known = renamed(asked, own), {one.name: one for one in own.values()}
    place = adapters_place(config.adapters, loaded.source, config.source)
    folders = {name: place / name for name in config.conditions()}
    model = loaded.pipe.transformer
    found = [
        load_adapter(folder, model, "adapters", known.get(name, name))
        for name, folder in folders.items()
    ]
    adapters = [adapter_note(name, folder) for name, folder in folders.items()]
    joint = JointPipeline(loaded.pipe, found)
    sizes = list(dict.fromkeys(config.size or ["{}x{}".format(*loaded.source.sample_size)]))
    given = [
        GivenFiles.check(request, joint.conditions.get(request.name), config, joint, sizes)
        for request in config.requests()
    ]
    batches = dealt(config, loaded, sizes)
    return Drawing(loaded, joint, config, sizes, given, batches, adapters)


def adapter_note(name: str, folder: Path) -> dict[str, Any]:
    """What settings.json tells of the adapter in ``folder``."""
    files = folder / "adapter"
    return {
        "name": name,
        "folder": str(folder),
        "weights": weights_digest(files),
        "config": settings_digest(files),
    }


def dealt(config: JointSampleConfig, loaded: Loaded, sizes: list[str]) -> list[list[Pair]]:
    """Every pair of the run, in the batches they are drawn in."""
    source, count = loaded.source, config.count()
    labels = labels_in_turn(count, source.num_classes, config.labels_told(source))
    stems = [stem for one in config.requests()[:1] for stem in given_stems(one, count)]

    def pair(size: str, k: int) -> Pair:
        name = file_name(source.every_name, labels[k])
        told = [name] if not stems or labels[k] < source.num_classes else []
        parts = [*(stems and [stems[k % len(stems)]]), *told, f"seed{config.seed}", f"{k:05d}"]
        return Pair("-".join(parts) + ".png", size, name, labels[k], k)

    return [
        [pair(size, k) for k in numbers]
        for size in sizes
        for numbers in cut(count, config.batch_size)
    ]


def given_stems(request: Request, count: int) -> list[str]:
    """What file names say of each of the files that ``count`` drawings take in turn.

    Their paths in the folder that is given, without suffixes; folders are joined by "_", and what
    would be too long for a file system is cut, as names differ by their numbers anyway.
    """
    folder = request.path if request.path.is_dir() else request.path.parent
    files = taken_in_turn(request.path, count)
    stems = ("_".join(file.relative_to(folder).with_suffix("").parts) for file in files)
    return [stem.encode(errors="ignore")[:LONGEST].decode(errors="ignore") for stem in stems]


def draw_batch(drawing: Drawing, batch: list[Pair]) -> None:
    """Draw and save one batch.

    Raises:
        UserError: what was drawn is not finite.
    """
    config, size = drawing.config, batch[0].size
    height, width = parse_size(size)
    numbers = [pair.k for pair in batch]
    drawn = drawing.joint(
        [pair.label for pair in batch],
        height,
        width,
        config.steps,
        seed=config.seed,
        guidance=build_rule(config.guidance),
        image_numbers=numbers,
        time_shift=config.time_shift,
        given={one.request.name: one.at(size, numbers) for one in drawing.given},
        condition_scale=config.condition_scale,
        weights=config.weights(),
        decode_batch_size=config.decode_batch_size,
        decode_tiled=config.decode_tiled,
    )
    if not all(bool(x.isfinite().all()) for x in (drawn.images, *drawn.conditions.values())):
        raise UserError(
            "the drawn images are not finite: guidance or a weight is too strong for this model, "
            "or its weights or an adapter's are damaged"
        )
    for branch in config.written():
        for pair, picture in zip(batch, drawn.pil(branch), strict=True):
            write_file(config.out / pair.file(branch), picture.save)

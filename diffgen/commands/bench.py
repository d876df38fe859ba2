"""What evaluations of one source at one size share, opened and read once."""

from pathlib import Path

from diffgen.commands.ema_after import average_digest, put_average
from diffgen.commands.guide import load_together
from diffgen.commands.left_out import tell_not_scored
from diffgen.commands.load import CHANGED, Loaded
from diffgen.commands.parts import Parts
from diffgen.commands.real_images import Part
from diffgen.commands.real_sets import open_reference
from diffgen.config.base import parse_size
from diffgen.config.evaluate import DRAWN, EvaluateConfig
from diffgen.config.networks import NetworksConfig
from diffgen.data.images import StoredImages
from diffgen.device import chosen_device
from diffgen.errors import SharedError, UserError
from diffgen.group import Group
from diffgen.metrics.extractor import load_extractor
from diffgen.metrics.read import Extractors, Reading, read
from diffgen.metrics.shards import Shards


class Bench:
    """A reference, extractors, and when it is asked for the model.

    Every process of ``group`` must make one, and ask alike.

    Args:
        config: what to score against what, and how.
        group: this process's part.
        parts: folder for what was seen of the real images.
        size: ``config.picture_size()`` where it is known, which reads every picture's header.
        real: images that ``config.reference`` names, already opened; None: it is opened here.

    Raises:
        UserError: anything a user can mend; see its message.
    """

    def __init__(
        self,
        config: EvaluateConfig,
        group: Group,
        parts: Path,
        size: str | None = None,
        real: StoredImages | None = None,
    ) -> None:
        self.config = config
        self.group = group
        with group.together():
            device = chosen_device(config.device, "dtype" if config.dtype == "bf16" else None)
            self.size = size or config.picture_size()
            self.reference = open_reference(config, self.size, real)
            if group.main:
                tell_not_scored("reference", self.reference.left_out)
        with group.together(), group.main_first():
            self.extractors = load_extractors(config, device)
        with group.together():
            check_sides(self.extractors, self.size, drawn=config.reference in DRAWN)
            self.reference.check(config, self.extractors)
        self.parts = Parts(parts, self.extractors)
        self._loaded: Loaded | None = None
        self._averaged: Loaded | None = None
        self._real: tuple[Reading | None, Reading | None] | None = None

    def model(self, config: EvaluateConfig) -> Loaded:
        """The model, with the guide and the averaged weights that ``config`` asks for.

        It is loaded once; of several averages it holds the one that was asked for last.
        """
        self._loaded = load_together(self.group, config, self._loaded)
        if config.ema is None:
            return self._loaded
        return self._with_average(self._loaded, Path(config.source), config.ema[0])

    def _with_average(self, loaded: Loaded, run: Path, width: float) -> Loaded:
        there = self._averaged
        if there is not None and there.average is not None and there.average.width == width:
            return there._replace(guide=loaded.guide, guide_weights=loaded.guide_weights)
        with self.group.together():
            average = put_average(loaded.pipe, run, width, None, "ema")
            weights = average_digest(loaded.weights, run, average)
        if len(set(self.group.everyones(weights))) > 1:  # a training may have stored another
            raise SharedError(CHANGED.format(run))
        self._averaged = loaded._replace(weights=weights, average=average)
        return self._averaged

    def counted(self, available: int | None = None) -> int:
        """Images to score: as many as asked for, as there are, and as the floor has.

        Raises:
            UserError: too few.
        """
        other = self.reference.other
        limits = [self.config.num_images, available, None if other is None else len(other)]
        count = min(limit for limit in limits if limit is not None)
        if count <= self.config.k:
            raise UserError(
                f"source: {self.config.source} has {count} images, k = {self.config.k} needs more"
            )
        return count

    def real(self, count: int, names: tuple[str, ...]) -> tuple[Reading | None, Reading | None]:
        """Reference and floor, read once; ``names`` serve a reference that has none."""
        if self._real is None:
            images, other = self.reference.images, self.reference.other
            first = self._read_real("reference", images, len(images), names) if images else None
            second = self._read_real("floor", other, count, names) if other else None
            self._real = first, second
        return self._real

    def read(self, part: Part, count: int, names: tuple[str, ...], shards: Shards) -> Reading:
        """What the extractors see in ``count`` stored images."""
        return read(
            self.extractors,
            part.first(count).batches,
            shards,
            self.config.batch_size,
            self.group,
            class_names=names,
            keep=KEPT,
        )

    def _read_real(self, name: str, part: Part, count: int, names: tuple[str, ...]) -> Reading:
        with self.group.together():
            facts = part.first(count).facts(self.size)
            shards = self.parts.shards(name, count, self.config.batch_size, facts)
        return self.read(part, count, part.class_names or names, shards)


KEPT = 64
"""Of a set, the first images that are kept as pictures."""


def load_extractors(config: NetworksConfig, device: str) -> Extractors:
    """The networks of a configuration by title; raises as ``load_extractor``."""
    return {
        named.title: load_extractor(
            named.name, named.weights, device, named.resize, named.image_size
        )
        for named in config.extractors()
    }


def check_sides(extractors: Extractors, size: str, drawn: bool) -> None:
    """Raise UserError where an extractor cannot read this size, or nothing can be ``drawn``."""
    for title, extractor in extractors.items():
        least = max(extractor.min_side, 8 if drawn else 1)
        if min(parse_size(size)) < least:
            raise UserError(f"size: {size} is too small; {title} needs {least} pixels a side")

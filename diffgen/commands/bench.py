"""What evaluations of one source at one size share, opened and read once."""

from diffgen.commands.guide import load_together
from diffgen.commands.left_out import tell_not_scored
from diffgen.commands.load import Loaded
from diffgen.commands.real_images import Part, Reference, open_reference
from diffgen.config.base import parse_size
from diffgen.config.evaluate import DRAWN, EvaluateConfig
from diffgen.config.source import Source
from diffgen.data.images import StoredImages
from diffgen.device import chosen_device
from diffgen.errors import UserError
from diffgen.group import Group
from diffgen.metrics.extractor import Extractor, load_extractor
from diffgen.metrics.read import Reading, read


class Bench:
    """A reference, an extractor, and when it is asked for the model.

    Every process of ``group`` must make one, and ask alike.

    Args:
        config: what to score against what, and how.
        group: this process's part.
        real: images that ``config.reference`` names, already opened; None: it is opened here.

    Raises:
        UserError: anything a user can mend; see its message.
    """

    def __init__(
        self, config: EvaluateConfig, group: Group, real: StoredImages | None = None
    ) -> None:
        self.config = config
        self.group = group
        with group.together():
            device = chosen_device(config.device, "dtype" if config.dtype == "bf16" else None)
            self.size = config.picture_size()
            self.reference = open_reference(config, self.size, real)
            if group.main:
                tell_not_scored("reference", self.reference.left_out)
        with group.together(), group.main_first():
            self.extractor = load_extractor(config.extractor, config.weights, device)
        with group.together():
            check_extractor(self.extractor, config, self.size, self.reference)
        self._loaded: Loaded | None = None
        self._real: tuple[Reading | None, Reading | None] | None = None

    def model(self, config: EvaluateConfig) -> Loaded:
        """The model, with the guide that ``config`` asks for; it is loaded once."""
        self._loaded = load_together(self.group, config, self._loaded)
        return self._loaded

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
            first = self.read(images, len(images), images.class_names or names) if images else None
            second = self.read(other, count, other.class_names or names) if other else None
            self._real = first, second
        return self._real

    def read(self, part: Part, count: int, names: tuple[str, ...]) -> Reading:
        """What the extractor sees in ``count`` stored images."""
        batches = part.first(count).batches(self.config.batch_size, self.group)
        return read(self.extractor, batches, count, names, self.group)


def check_extractor(
    extractor: Extractor, config: EvaluateConfig, size: str, reference: Reference
) -> None:
    """Raise UserError where the extractor cannot read this size or the stored statistics."""
    least = max(extractor.min_side, 8 if config.reference in DRAWN else 1)
    if min(parse_size(size)) < least:
        raise UserError(f"size: {size} is too small; {extractor.name} needs {least} pixels a side")
    if reference.stored is not None and len(reference.stored.mean) != extractor.num_features:
        raise UserError(
            f"reference: {config.reference} holds mu and sigma of {len(reference.stored.mean)} "
            f"features, but {extractor.name} has {extractor.num_features}"
        )


def class_names(source: Source) -> tuple[str, ...]:
    """A name for every class of a model, "" for those without."""
    names = source.class_names[: source.num_classes]
    return names + ("",) * (source.num_classes - len(names))

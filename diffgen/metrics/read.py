"""Sets of 8-bit images through an extractor, once, for every metric."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from diffgen.group import ALONE, Group
from diffgen.metrics.colour import MEASURES, colour_measures
from diffgen.metrics.extractor import Extractor
from diffgen.metrics.reader import READER_CLASSES

Batch = tuple[Sequence[int], Tensor, Tensor]
"""Numbers of B images in their set, the images (B, 3, H, W) uint8, their labels (B,) int64."""


@dataclass(frozen=True)
class Reading:
    """What an extractor saw in a set of N images, in their order."""

    features: Tensor
    """(N, D) fp32, on the CPU."""
    labels: Tensor
    """(N,) int64, over ``class_names``; -1 or beyond them: of no known class."""
    class_names: tuple[str, ...]
    colour: Tensor
    """(N, 4) float64, as ``colour_measures`` has them."""

    def correct(self, extractor: Extractor) -> int | None:
        """Images the reader takes for what they should show; None if it cannot know."""
        if extractor.classify is None:
            return None
        known = reader_labels(self.class_names)
        wanted = [known[i] if 0 <= i < len(known) else -1 for i in self.labels.tolist()]
        if -1 in wanted:
            return None
        return int((extractor.classify(self.features) == torch.tensor(wanted)).sum())

    def label_counts(self) -> dict[str, int]:
        """Images of each label that occurs, by its name where it has one, in their order."""
        counted = Counter(self.labels.tolist())
        return {self._name(label): counted[label] for label in sorted(counted)}

    def _name(self, label: int) -> str:
        named = 0 <= label < len(self.class_names) and self.class_names[label]
        return named or ("unlabelled" if label < 0 else f"label {label}")

    def __getitem__(self, part: slice) -> "Reading":
        return Reading(self.features[part], self.labels[part], self.class_names, self.colour[part])


def reader_labels(class_names: Sequence[str]) -> list[int]:
    """The reader's label of each class name, -1 for names it does not know."""
    return [READER_CLASSES.index(n) if n in READER_CLASSES else -1 for n in class_names]


def read(
    extractor: Extractor,
    batches: Iterable[Batch],
    count: int,
    class_names: tuple[str, ...] = (),
    group: Group = ALONE,
) -> Reading:
    """Read a set of ``count`` images, of which ``batches`` are this process's part in ``group``.

    Every row is written by one process and added to the others' zeros, which keeps it exact.

    Raises:
        UserError: an image of any process cannot be read.
        RuntimeError: the processes' batches leave a gap or hold an image twice.
    """
    features = torch.zeros(count, extractor.num_features, device=extractor.device)
    labels = torch.zeros(count, dtype=torch.int64, device=extractor.device)
    times_read = torch.zeros_like(labels)
    colour = torch.zeros(count, len(MEASURES), dtype=torch.float64)
    with group.together():
        for numbers, images, wanted in batches:
            rows = torch.as_tensor(numbers, device=extractor.device)
            features[rows] = extractor(images)
            labels[rows] = wanted.to(labels)
            colour[rows.cpu()] = colour_measures(images.cpu())
            times_read[rows] += 1
    if not bool((group.sum(times_read) == 1).all()):
        raise RuntimeError("the processes did not read every image once")
    return Reading(group.sum(features), group.sum(labels), class_names, group.sum(colour))

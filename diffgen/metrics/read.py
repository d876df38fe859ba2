"""Sets of 8-bit images through every network asked for, once, for every metric."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from diffgen.group import ALONE, Group, cut
from diffgen.metrics.colour import colour_measures
from diffgen.metrics.extractor import Extractor
from diffgen.metrics.shards import Shards
from diffgen.signals import Interrupted

Batch = tuple[Sequence[int], Tensor, Tensor]
"""Numbers of B images in their set, the images (B, 3, H, W) uint8, their labels (B,) int64."""
Draw = Callable[[Sequence[range]], Iterator[Batch]]
"""The batches of these numbers, in their order."""
Extractors = Mapping[str, Extractor]
"""By a title of each, the one of the headline figures first."""


@dataclass(frozen=True)
class Reading:
    """What networks saw in a set of N images, in their order."""

    layers: Mapping[str, Mapping[str, Tensor]]
    """Of each extractor its layers, (N, width) fp32 on the CPU; see ``Extractor.layers``. Only the
    main process has them."""
    labels: Tensor
    """(N,) int64, over ``class_names``; -1 or beyond them: of no known class."""
    class_names: tuple[str, ...]
    colour: Tensor
    """(N, 4) float64, as ``colour_measures`` has them."""
    pictures: Tensor
    """(P, 3, H, W) uint8, the first images, as many as were to be kept."""

    @property
    def count(self) -> int:
        """N."""
        return len(self.labels)

    def correct(self, title: str, extractor: Extractor) -> int | None:
        """Images an extractor takes for what they should show; None if it cannot know.

        A network with ``class_names`` knows classes by them; another classifier is taken to count
        them as the images do, where both have as many.
        """
        logits = self.layers[title].get("logits")
        if logits is None:
            return None
        if extractor.class_names:
            known = labels_by_name(self.class_names, extractor.class_names)
        else:
            same = len(self.class_names) == logits.shape[1]
            known = list(range(logits.shape[1])) if same else []
        wanted = [known[i] if 0 <= i < len(known) else -1 for i in self.labels.tolist()]
        if -1 in wanted:
            return None
        return int((logits.argmax(1) == torch.tensor(wanted)).sum())

    def label_counts(self) -> dict[str, int]:
        """Images of each name that occurs, in the order of their labels; two may share a name."""
        counted: Counter[str] = Counter()
        for label in sorted(self.labels.tolist()):
            counted[self.class_name(label)] += 1
        return dict(counted)

    def class_name(self, label: int) -> str:
        """The name of a label, or its number where it has none."""
        named = 0 <= label < len(self.class_names) and self.class_names[label]
        return named or ("unlabelled" if label < 0 else f"label {label}")


def labels_by_name(class_names: Sequence[str], known: Sequence[str]) -> list[int]:
    """The place of each class name among those ``known``, -1 for others."""
    return [known.index(name) if name in known else -1 for name in class_names]


def read(
    extractors: Extractors,
    draw: Draw,
    shards: Shards,
    batch_size: int,
    group: Group = ALONE,
    *,
    class_names: tuple[str, ...] = (),
    keep: int = 0,
    describe: str = "reading",
) -> Reading:
    """Read a set of images, each once; shards that are there already are not read again.

    Args:
        extractors: what looks at them.
        draw: gives the images.
        shards: where their features go, and how many images there are.
        batch_size: images at once; it must divide the shards.
        group: the processes that share the work; all must call this.
        class_names: what the labels count.
        keep: so many of the first images are kept as pictures.
        describe: of the progress bar.

    Raises:
        UserError: an image of any process cannot be read.
        RuntimeError: ``draw`` leaves an image out or gives one twice.
    """
    fill(extractors, draw, shards, batch_size, group, keep=keep, describe=describe)
    mine = extractors if group.main else {}
    with group.together():
        return Reading(
            layers={
                title: {layer: shards.load(f"{title}/{layer}") for layer in extractor.layers}
                for title, extractor in mine.items()
            },
            labels=shards.load("labels"),
            class_names=class_names,
            colour=shards.load("colour"),
            pictures=shards.load("pictures"),
        )


def fill(
    extractors: Extractors,
    draw: Draw,
    shards: Shards,
    batch_size: int,
    group: Group = ALONE,
    *,
    keep: int = 0,
    describe: str = "reading",
) -> None:
    """What ``read`` does, and raises, without taking the shards back into memory."""
    with group.together():  # nobody writes before all have seen what is missing
        todo = shards.missing()
    try:
        with group.together():
            _read_shards(extractors, draw, shards, batch_size, group, todo, keep, describe)
    except Interrupted as stop:
        there = shards.count - sum(map(len, shards.missing()))
        left = f"{there} of {shards.count} images are done, the same command goes on"
        raise Interrupted(stop.signum, left) from None


def _read_shards(
    extractors: Extractors,
    draw: Draw,
    shards: Shards,
    batch_size: int,
    group: Group,
    todo: list[range],
    keep: int,
    describe: str,
) -> None:
    """Write this process's part of the shards ``todo``."""
    mine = group.deal(todo)
    with _bar(describe, shards.count, todo, mine, group) as bar:
        for rows in mine:
            parts = cut(len(rows), batch_size)
            batches = draw([rows[part.start : part.stop] for part in parts])
            shards.write(rows, _gathered(extractors, batches, rows, keep, bar))


def _bar(describe: str, count: int, todo: list[range], mine: Sequence[range], group: Group) -> Any:
    """A bar over this process's images, those it finds done included where it is alone."""
    done = count - sum(map(len, todo)) if group.world == 1 else 0
    total = done + sum(map(len, mine))
    hidden = not group.main
    return tqdm(total=total, initial=done, unit="img", desc=describe, disable=hidden)


def _gathered(
    extractors: Extractors, batches: Iterable[Batch], rows: range, keep: int, bar: Any
) -> dict[str, Tensor]:
    """The tensors of a shard."""
    parts: dict[str, list[Tensor]] = {}
    numbers: list[int] = []
    for these, images, labels in batches:
        numbers += these
        seen = {
            f"{title}/{layer}": values
            for title, extractor in extractors.items()
            for layer, values in extractor.outputs(images).items()
        }
        seen["labels"] = labels.long()
        seen["colour"] = colour_measures(images.cpu())
        seen["pictures"] = images[: max(0, keep - these[0])]
        for name, values in seen.items():
            parts.setdefault(name, []).append(values.cpu())
        bar.update(len(these))
    if numbers != list(rows):
        raise RuntimeError(f"images {rows} were to be drawn, {numbers} were")
    return {name: torch.cat(values) for name, values in parts.items()}

"""What the cells of a sweep share, opened once: real pictures, networks, the model, aligners."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from diffgen.commands.bench import Bench
from diffgen.commands.drawn_classes import AS_CONDITIONS, IN_TURN, same_classes
from diffgen.commands.lacon_sweep.aligners import Stored, open_aligners
from diffgen.commands.lacon_sweep.wanted import Judge, Wanted, wanted_pictures
from diffgen.config.base import parse_size
from diffgen.config.lacon_cell import LaconCellConfig
from diffgen.errors import UserError
from diffgen.group import Group
from diffgen.lacon.aligner import Aligner
from diffgen.lacon.conditions import Condition
from diffgen.metrics.reader import MIN_SIDE, load_reader
from diffgen.sampling.batches import labels_in_turn


@dataclass(frozen=True)
class Opened:
    """All of it."""

    bench: Bench
    conditions: Mapping[str, Condition]
    """By the names they were asked for by."""
    aligners: Mapping[str, Aligner]
    judge: Judge
    labels: list[int]
    """Of each image; there are as many images."""
    rule: str
    """Where they come from."""

    @property
    def wanted(self) -> Wanted:
        """The pictures that images shall match."""
        return self.judge.wanted

    @property
    def count(self) -> int:
        """Images of a cell."""
        return len(self.labels)


def open_all(
    stored: Mapping[str, Stored], config: LaconCellConfig, group: Group, parts: Path
) -> Opened:
    """Everything, checked before a first image is drawn. All processes must call it.

    Args:
        stored: conditions and aligners.
        config: of any cell.
        group: the processes.
        parts: folder for what is seen of the real pictures.

    Raises:
        UserError: anything a user can mend; see its message.
    """
    bench = Bench(config, group, parts)
    conditions = {name: one.condition for name, one in stored.items()}
    with group.together():
        wanted = wanted_pictures(bench.reference, config.reference, config.num_images)
        judge = Judge(wanted, load_reader(next(iter(bench.extractors.values())).device))
        for name, condition in conditions.items():
            check(name, condition, judge, bench.size)
    loaded = bench.model(config)
    names = loaded.source.every_name
    with group.together():
        aligners = open_aligners(stored, loaded.pipe.transformer)
        count = bench.counted()
    _, other = bench.real(count, names)
    labels, rule = (same_classes(other, names) if other else []), AS_CONDITIONS
    if not labels:
        labels, rule = labels_in_turn(count, len(names)), IN_TURN
    return Opened(bench, conditions, aligners, judge, labels, rule)


def check(name: str, condition: Condition, judge: Judge, size: str) -> None:
    """Raise UserError where the maps cannot be had, or not be read from what is drawn."""
    if condition.find is None and not judge.wanted.has(condition):
        raise UserError(
            f"conditions: {name} cannot be found in pictures, and these bring no such maps; shapes "
            "do"
        )
    if judge.sees(condition) and min(parse_size(size)) < MIN_SIDE:
        raise UserError(
            f"size: {size} is too small; {name} is read by the embedded reader, which needs "
            f"{MIN_SIDE} pixels a side"
        )

"""Entries that may be compared, together: rows of one or several seeds, and their verdicts."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from diffgen.commands.compare_entries import Entry
from diffgen.errors import UserError
from diffgen.metrics.comparison import Verdict, verdict
from diffgen.metrics.intervals import mean_estimate
from diffgen.metrics.shown import SHARES


class Figure(NamedTuple):
    """A figure of a row."""

    value: float
    interval: tuple[float, float] | None
    """95 %; None: not known."""


@dataclass(frozen=True)
class Row:
    """One thing that was scored, with one or several seeds."""

    files: tuple[Path, ...]
    seeds: tuple[int, ...]
    """None where nothing was drawn."""
    own: Mapping[str, str]
    figures: Mapping[str, Figure | None]
    """None: not available, in one of the evaluations at least."""

    def verdicts(self, first: "Row") -> dict[str, Verdict]:
        """How each figure that both have lies to that of ``first``."""
        pairs = {name: (figure, first.figures[name]) for name, figure in self.figures.items()}
        return {
            name: _verdict(this, that)
            for name, (this, that) in pairs.items()
            if this is not None and that is not None
        }


@dataclass(frozen=True)
class Table:
    """Rows that may be compared."""

    common: Mapping[str, str]
    rows: Sequence[Row]
    floor: Mapping[str, float | None]
    """Of real images against real images; empty: no evaluation has a floor."""


def tables(entries: Sequence[Entry], figures: Sequence[str]) -> list[Table]:
    """The entries in tables, both in the order in which they come.

    Args:
        entries: of all evaluations.
        figures: names of those wanted; none: all that an entry has a value of.

    Raises:
        UserError: a figure that none has, or one evaluation twice.
    """
    known = {name for entry in entries for name in entry.scores}
    for name in figures:
        if name not in known:
            raise UserError(f"figures: {name} is none of {', '.join(sorted(known))}")
    found = []
    for together in _alike(entries, "common"):
        given = [n for entry in together for n, value in entry.scores.items() if value is not None]
        names = list(figures) or list(dict.fromkeys(given))
        floor = next((entry.floor for entry in together if entry.floor), {})
        rows = [_row(same, names) for same in _alike(together, "own")]
        found.append(Table(together[0].common, rows, floor))
    return found


def apart(found: Sequence[Table]) -> dict[str, list[str]]:
    """What keeps tables apart: names with the value of each table, "-" where it has none.

    The conventions restate the rules in words, so they are named only where nothing else differs.
    """
    names = dict.fromkeys(name for table in found for name in table.common)
    values = {name: [table.common.get(name, "-") for table in found] for name in names}
    differ = {name: every for name, every in values.items() if len(set(every)) > 1}
    telling = {name: v for name, v in differ.items() if not name.startswith("conventions.")}
    return telling or differ


def _alike(entries: Sequence[Entry], by: str) -> list[list[Entry]]:
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(json.dumps(getattr(entry, by), sort_keys=True), []).append(entry)
    return list(groups.values())


def _row(entries: Sequence[Entry], names: Sequence[str]) -> Row:
    seen: dict[int | None, Path] = {}
    for entry in entries:
        if entry.seed in seen:
            seed = "" if entry.seed is None else f", seed {entry.seed}"
            raise UserError(
                f"files: {seen[entry.seed]} and {entry.file} are the same evaluation (of the same "
                f"source, by the same settings{seed}); give one of them"
            )
        seen[entry.seed] = entry.file
    return Row(
        tuple(seen.values()),
        tuple(seed for seed in seen if seed is not None),
        entries[0].own,
        {name: _figure(entries, name) for name in names},
    )


def _figure(entries: Sequence[Entry], name: str) -> Figure | None:
    """Of one entry as it is; of several seeds their mean, by Student's t.

    Where all seeds agree, as with shares of 0, their spread tells nothing, and one's own interval
    stands.
    """
    values = [entry.scores.get(name) for entry in entries]
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return None
    mean = mean_estimate(known)
    interval = mean.interval
    if interval and name in (*SHARES, "class_accuracy"):
        interval = max(0.0, interval[0]), min(1.0, interval[1])
    return Figure(mean.value, interval or entries[0].intervals.get(name))


def _verdict(this: Figure, that: Figure) -> Verdict:
    if this.interval is None or that.interval is None:
        return "inconclusive"
    return verdict(this.interval, that.interval)

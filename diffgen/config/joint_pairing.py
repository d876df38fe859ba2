"""Whether the folders that a joint drawing is given go with each other, and with its own."""

from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

from diffgen.config.joint_given import taken_in_turn


class NamedFolder(NamedTuple):
    """One of --given or --known."""

    field: str
    name: str
    path: Path

    def stems(self, count: int) -> list[str]:
        """Paths in it, without suffixes, of the images that ``count`` drawings take in turn."""
        files = taken_in_turn(self.path, count)
        return [str(file.relative_to(self.path).with_suffix("")) for file in files]

    def said(self) -> str:
        """It and its number of images."""
        return f"{self.name}={self.path} ({len(taken_in_turn(self.path, None))} images)"


def pairing_problems(named: dict[str, list[tuple[str, Path]]], count: int) -> Iterator[str]:
    """The first complaint about folders, by option, whose n-th files differ by name.

    Their files are taken in turn, so a file too few would pair all that follow wrongly.
    ``count``: drawings at each size.
    """
    folders = [
        NamedFolder(field, name, path)
        for field, pairs in named.items()
        for name, path in pairs
        if path.is_dir()
    ]
    for other in folders[1:]:
        first = folders[0]
        both = zip_longest(first.stems(count), other.stems(count))
        for number, (there, here) in enumerate(both, start=1):
            if there != here:
                yield (
                    f"{other.field}: {other.said()} does not go with {first.said()}: files are "
                    f"paired by name in their order, but number {number} is {here or 'missing'} "
                    f"here and {there or 'missing'} there"
                )
                return


def crossing_out(named: dict[str, list[tuple[str, Path]]], out: Path) -> Iterator[str]:
    """The first complaint about a folder, by option, that ``out`` is, holds or lies in.

    What is written there would be taken for given by the next run, or be written over it.
    """
    own = out.resolve()
    for field, pairs in named.items():
        for name, path in pairs:
            folder = path.resolve()
            if not folder.is_dir() or not (own.is_relative_to(folder) or own in folder.parents):
                continue
            place = "is" if own == folder else "holds" if own in folder.parents else "lies in"
            yield f"out: {out} {place} the folder {field} as {name}, {path}; choose another"
            return

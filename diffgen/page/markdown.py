"""The tables of an evaluation as Markdown."""

import re
from collections.abc import Iterable, Iterator

from diffgen.page.tables import Content, Table, against, colours, decisive, networks, title

SPECIAL = re.compile(r"[\\`*<&|~]|(?<!\w)_|_(?!\w)|\](?=[(\[:])")


def markdown(content: Content) -> str:
    """The report without its pictures."""
    return "\n".join(_lines(content)) + "\n"


def _lines(content: Content) -> Iterator[str]:
    yield f"# {escaped(title(content))}"
    yield ""
    yield escaped(against(content))
    yield "Intervals are 95 %."
    yield ""
    for network in networks(content):
        yield from table(network.figures)
        missing = [f"- {name}: not available, {escaped(why)}" for name, why in network.missing]
        items = missing + [f"- {escaped(note)}" for note in network.notes]
        yield from [*items, ""] if items else []
    yield from table(colours(content))
    for one in decisive(content):
        yield from table(one)


def table(content: Table) -> Iterator[str]:
    """Heading and rows, and an empty line."""
    yield f"## {escaped(content.title)}"
    yield ""
    yield from rows(content.head, content.rows)
    yield ""


def rows(head: Iterable[str], body: Iterable[Iterable[str]]) -> Iterator[str]:
    """A table without a heading."""
    titles = [escaped(cell) for cell in head]
    yield f"| {' | '.join(titles)} |"
    yield "|" + "---|" * len(titles)
    for row in body:
        yield f"| {' | '.join(escaped(cell) for cell in row)} |"


def escaped(text: str) -> str:
    """One line of text in which nothing is Markdown or HTML."""
    return SPECIAL.sub(r"\\\g<0>", " ".join(text.split()))

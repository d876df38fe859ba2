"""``compare``: saved evaluations, a table for each set whose figures may be compared."""

from collections.abc import Iterator, Sequence
from typing import Any

from diffgen.commands.compare_entries import RULES, read_entries
from diffgen.commands.compare_tables import Figure, Row, Table, apart, tables
from diffgen.config.compare import CompareConfig
from diffgen.files import write_file, write_json
from diffgen.metrics.shown import NAMES, shown
from diffgen.page.markdown import escaped, rows

NOTE = (
    "Intervals are 95 %: those of the evaluations, and of several seeds Student's t over them "
    "(where all agree, that of the first). A figure is lower or higher than the first row's where "
    "the two intervals do not meet; everywhere else the comparison is inconclusive."
)
LONGEST = 80
"""Of a value in print [characters]."""


def compare(config: CompareConfig) -> None:
    """Print the tables, and save them where ``config.out`` says.

    Raises:
        UserError: a file is no evaluation, an older one or damaged; one evaluation is there
            twice; a figure that none has; ``out`` cannot be written.
    """
    entries = [entry for file in config.files for entry in read_entries(file)]
    found = tables(entries, config.figures)
    text = "\n".join(markdown(found))
    print(text)
    if config.out is None:
        return
    if config.out.suffix == ".json":
        write_json(config.out, content(found))
    else:
        write_file(config.out, lambda path: path.write_text(text + "\n", encoding="utf-8"))
    print(f"\nsaved as {config.out}")


def content(found: Sequence[Table]) -> dict[str, Any]:
    """As JSON holds it."""
    return {
        "schema": "diffgen-comparison/1",
        "tables": [
            {
                "common": table.common,
                "rows": [_row(row, table.rows[0]) for row in table.rows],
                "floor": table.floor,
            }
            for table in found
        ],
        "apart": apart(found),
        "intervals": NOTE,
    }


def _row(row: Row, first: Row) -> dict[str, Any]:
    known = {name: figure for name, figure in row.figures.items() if figure is not None}
    return {
        "files": [str(file) for file in row.files],
        "seeds": list(row.seeds),
        "own": row.own,
        "scores": {name: figure.value for name, figure in known.items()},
        "intervals": {name: figure.interval for name, figure in known.items()},
        "against_first": None if row is first else row.verdicts(first),
    }


def markdown(found: Sequence[Table]) -> Iterator[str]:
    """Every table under what is common to it, and what keeps several apart."""
    for number, table in enumerate(found, 1):
        yield from [f"## {number}: {escaped(heading(table))}", "", escaped(rules(table)), ""]
        yield from _rows(table)
        if len(table.rows) == 1:
            yield from ["", "Nothing here to compare it with."]
        yield ""
    differ = apart(found)
    if differ:
        yield "The tables are not to be compared with each other. They differ in:"
        for name, values in differ.items():
            told = (f"{escaped(_short(value))} ({n})" for n, value in enumerate(values, 1))
            yield f"- {escaped(name)}: {', '.join(told)}"
        yield ""
    yield NOTE


def heading(table: Table) -> str:
    """Counts, reference, size and network."""
    common = table.common
    real = f"{common['real images']} real ones" if common["real images"] != "0" else "statistics"
    return (
        f"{common['images']} images against {real} of {common['reference']} at {common['size']}, "
        f"by {common['extractor.name']}"
    )


def rules(table: Table) -> str:
    """Profile, labels, rules and what tells the network from others of its name."""
    common = table.common
    told = [f"{name} {common[name]}" for name in ("profile", *RULES)]
    network = f"{common['extractor.preprocessing']}; weights {common['extractor.weights_sha256']}"
    return f"{', '.join(told)}; labels: {common['labels']}; {network}"


def _rows(table: Table) -> Iterator[str]:
    first = table.rows[0]
    names = list(first.figures)
    head = ["evaluation", "seeds", "set apart by", *(NAMES.get(name, name) for name in names)]
    files = [file for row in table.rows for file in row.files]
    unique = len({file.name for file in files}) == len(files)
    body = []
    for row in table.rows:
        title = row.files[0].name if unique else str(row.files[0])
        if len(row.files) > 1:
            title += f" and {len(row.files) - 1} more"
        seeds = ", ".join(map(str, row.seeds)) or "-"
        verdicts = {} if row is first else row.verdicts(first)
        figures = [_cell(name, row.figures[name], verdicts.get(name)) for name in names]
        body.append([title, seeds, _set_apart(row, table), *figures])
    if table.floor:
        floor = ((name, table.floor.get(name)) for name in names)
        real = ["-" if value is None else shown(name, value, None) for name, value in floor]
        body.append(["real against real", "-", "", *real])
    return rows(head, body)


def _cell(name: str, figure: Figure | None, verdict: str | None) -> str:
    if figure is None:
        return "-"
    text = shown(name, figure.value, figure.interval)
    return f"{text} {verdict}" if verdict else text


def _set_apart(row: Row, table: Table) -> str:
    """The settings in which the rows differ, as this one has them."""
    names = dict.fromkeys(name for one in table.rows for name in one.own)
    differ = [name for name in names if len({one.own.get(name) for one in table.rows}) > 1]
    return ", ".join(f"{name} {_short(row.own[name])}" for name in differ if name in row.own)


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."

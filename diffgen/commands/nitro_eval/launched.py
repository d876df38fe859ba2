"""The rows' trainings as commands of their own, to be run side by side."""

import shlex
from collections.abc import Iterator, Sequence

from diffgen.commands.nitro_eval.rows import Row
from diffgen.commands.nitro_eval.trainings import FIRST, is_trained
from diffgen.config.command_line import to_yaml
from diffgen.config.nitro import NitroConfig
from diffgen.config.nitro_eval import NitroEvalConfig
from diffgen.files import write_file


def launched(config: NitroEvalConfig, rows: Sequence[Row]) -> str:
    """The commands that are still to be run; their settings are written beside the students.

    Raises:
        UserError: a folder holds a student of other settings.
    """
    return "\n".join(_lines(config, rows))


def _lines(config: NitroEvalConfig, rows: Sequence[Row]) -> Iterator[str]:
    trainings = {row.training.out: row for row in rows if row.training}  # some have several rows
    todo = [
        (row.name, row.training)
        for row in trainings.values()
        if row.training and not is_trained(row.name, row.training)
    ]
    if not todo:
        yield "# every row is trained"
    if todo and todo[0][0] == FIRST:
        yield "# first, for the pairs and the regression of all:"
        yield _command(config, todo.pop(0)[1])
    if todo:
        yield "# then in any order, also side by side:"
        yield from (_command(config, training) for _, training in todo)


def _command(config: NitroEvalConfig, training: NitroConfig) -> str:
    assert training.out is not None
    file = config.out / "settings" / f"{training.out.name}.yaml"
    write_file(file, lambda path: path.write_text(to_yaml(training), encoding="utf-8"))
    return shlex.join(["python", "train/nitro.py", config.source, "--config", str(file)])

"""The command that uses what was trained beside a model, for the end of its training."""

import shlex
from collections.abc import Iterator
from itertools import chain, count
from pathlib import Path

from diffgen.config.beside import C, Settled


def next_command(settled: Settled[C], name: str, script: str, option: str, given: str) -> list[str]:
    """The lines that use what was trained: the command, and before it, if need be, a move.

    A folder that is there already stays what it is: ``mv`` would put another into it.

    Args:
        settled: of the training.
        name: of the folder that ``script`` finds it by.
        script: that uses it.
        option: its option for a folder of such folders.
        given: what else it is told.
    """
    config, lines = settled.config, list[str]()
    local = Path(config.source).exists()  # a hub's models have no folder here
    due, place = config.place(settled.source) if local else None, settled.out.parent
    command = ["python", script, shlex.quote(config.source)]
    if settled.out.name != name:
        free = (one for one in places(due, settled.out, option) if not (one / name).exists())
        place = next(free)
        if place != settled.out.parent:
            lines.append(f"  mkdir -p {shlex.quote(str(place))}")
        target = shlex.quote(str(place / name))
        lines.append(f"  mv {shlex.quote(str(settled.out))} {target}")
    if place != due:
        command.append(f"--{option} {shlex.quote(str(place))}")
    if config.vae is not None:
        command.append(f"--vae {shlex.quote(config.vae)}")
    return [*lines, f"  {' '.join(command)} {given}"]


def places(due: Path | None, out: Path, option: str) -> Iterator[Path]:
    """Folders that ``out`` could be moved to: where it is looked for, beside itself, a new one."""
    new = (out.with_name(f"{out.name}-{option}{k}") for k in chain([""], count(2)))
    return chain([] if due is None else [due], [out.parent], new)

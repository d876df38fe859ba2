"""``nitro-eval``: students for every row and seed, trained and scored one after the other."""

from functools import partial
from pathlib import Path

from diffgen.commands.alone import refuse_company
from diffgen.commands.bench import Bench
from diffgen.commands.digests import model_digests
from diffgen.commands.evaluate import Scored, score_on
from diffgen.commands.nitro.command import nitro
from diffgen.commands.nitro_eval.launched import launched
from diffgen.commands.nitro_eval.report import finish, report, same_teacher
from diffgen.commands.nitro_eval.rows import Row, rows_of
from diffgen.commands.nitro_eval.stopped import note
from diffgen.commands.nitro_eval.trainings import is_trained
from diffgen.commands.origins import origin_of
from diffgen.commands.sweeps import real_parts
from diffgen.config.evaluate import EvaluateConfig
from diffgen.config.nitro import NitroConfig
from diffgen.config.nitro_eval import NitroEvalConfig, RowName
from diffgen.config.source import resolve
from diffgen.device import on_cpu
from diffgen.errors import DivergedError
from diffgen.files import locked
from diffgen.group import Group
from diffgen.signals import Interrupted


def nitro_eval(config: NitroEvalConfig) -> None:
    """Train and score what is missing; write table and pictures after each row.

    Raises:
        UserError: anything a user can mend; see its message.
        Interrupted: a signal came; its message tells how many rows there are.
    """
    group = Group.join(cpu=on_cpu(config.device))
    refuse_company(group)
    source = resolve(config.source)
    config = config.settled(source)
    rows = rows_of(config, source)
    weights = model_digests(config.source, config.vae).weights
    same_teacher(config, weights)
    if config.commands:
        print(launched(config, rows))
        return
    with locked(config.out):
        done = [row for row in rows if complete(row)]  # other settings are refused before work
        try:
            for number, row in enumerate(rows, 1):
                if row not in done:
                    print(f"row {number} of {len(rows)}: {row.title}", flush=True)
                    fill(config, row, group)
                    done = [one for one in rows if one in done or one is row]
                    report(config, weights, done)
        except Interrupted as stop:
            there = f"{len(done)} of {len(rows)} rows are in {config.out}"
            left = f"{stop}; {there}" if str(stop) else f"{there}, the same command goes on"
            raise Interrupted(stop.signum, left) from None
        finish(config, weights, rows)


def complete(row: Row) -> bool:
    """Whether it is trained and scored.

    Raises:
        UserError: its folder holds a student of other settings.
    """
    trained = row.training is None or is_trained(row.name, row.training)
    return trained and not row.missing()


def fill(config: NitroEvalConfig, row: Row, group: Group) -> None:
    """Train and score what is missing of it."""
    if row.training is not None:
        train(row.name, row.training)
    for cell in row.missing():
        score = partial(scored, group, real_parts(config.out))
        cell.fill(group, origin_of(cell.config), score)


def train(name: RowName, student: NitroConfig) -> None:
    """Train a student; one that another command trains is waited for.

    One whose loss became NaN or infinite is left as it is: its best checkpoint is scored.
    """
    assert student.out is not None
    with locked(student.out, wait=True):
        pass
    if not is_trained(name, student):
        try:
            nitro(student)
        except DivergedError as error:
            note(student.out, error)
            print(f"{name}: {error}; its best checkpoint is scored", flush=True)


def scored(group: Group, real: Path, config: EvaluateConfig, parts: Path) -> Scored:
    """The evaluation of a cell; what is seen of the real images stays in ``real``."""
    return score_on(Bench(config, group, real), config, parts)

"""The console script ``diffgen``, and the start of every script in train/, sample/ and eval/."""

import os
import sys
import time
from importlib import import_module
from typing import Any, NamedTuple

from diffgen.config.command_line import parse
from diffgen.errors import UserError

SECONDS_TO_SPEAK = 20


class Verb(NamedTuple):
    """A command: where its configuration and its action live, both imported only when used."""

    config: str
    action: str
    summary: str


VERBS = {
    "train": Verb("diffgen.config.train:TrainConfig", "diffgen.commands.train:train", "train"),
    "sample": Verb(
        "diffgen.config.sample:SampleConfig", "diffgen.commands.sample:sample", "draw images"
    ),
    "eval": Verb(
        "diffgen.config.evaluate:EvaluateConfig", "diffgen.commands.evaluate:evaluate", "score"
    ),
}


def main(argv: list[str] | None = None) -> int:
    """``diffgen VERB ...``; returns the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    if argv and argv[0] in VERBS:
        return launch(argv[0], argv[1:], f"diffgen {argv[0]}")
    lines = [f"  {name:8}{verb.summary}" for name, verb in VERBS.items()]
    usage = "\n".join(["usage: diffgen VERB ...", *lines, "diffgen VERB --help lists its options"])
    if argv and argv[0] in ("-h", "--help"):
        print(usage)
        return 0
    complaint = f"diffgen: {argv[0]!r} is no verb" if argv else "diffgen: a verb is needed"
    print(f"{complaint}\n{usage}", file=sys.stderr)
    return 2


def launch(verb: str, argv: list[str], prog: str) -> int:
    """Parse ``argv``, run the command, and turn a user's mistake into a message and code 2."""
    try:
        config = parse(_load(VERBS[verb].config), argv, prog)
        _load(VERBS[verb].action)(config)
    except UserError as error:
        message = str(error)
        let_main_process_speak()
        print(message if message.startswith(prog) else f"{prog}: {message}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\n{prog}: interrupted", file=sys.stderr)
        return 130
    return 0


def let_main_process_speak() -> None:
    """Wait, in every process of a launch but the main one, which mostly meets the same mistake.

    The launcher ends the others once the main process has told it; if that does not happen, the
    mistake is this process's own and it tells it itself.
    """
    if int(os.environ.get("RANK", "0")) > 0:
        time.sleep(SECONDS_TO_SPEAK)


def _load(place: str) -> Any:
    module, name = place.split(":")
    return getattr(import_module(module), name)

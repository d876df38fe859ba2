"""The console script ``diffgen``, and the start of every script in train/, sample/ and eval/."""

import os
import signal
import sys
import time
from importlib import import_module
from typing import Any, NamedTuple

from diffgen import signals
from diffgen.config.command_line import parse
from diffgen.errors import SharedError, UserError
from diffgen.signals import Interrupted


class Verb(NamedTuple):
    """A command: where its configuration and its action live, both imported only when used."""

    config: str
    action: str
    summary: str


VERBS = {
    "prepare": Verb(
        "diffgen.config.prepare:PrepareConfig",
        "diffgen.commands.prepare:prepare",
        "encode images to latents once, to train on",
    ),
    "train": Verb("diffgen.config.train:TrainConfig", "diffgen.commands.train:train", "train"),
    "lacon": Verb(
        "diffgen.config.lacon:LaconConfig",
        "diffgen.commands.train_aligner:train_aligner",
        "train an aligner, to steer a model by a condition",
    ),
    "joint": Verb(
        "diffgen.config.joint:JointConfig",
        "diffgen.commands.train_joint:train_joint",
        "train an adapter, to draw images and a condition jointly",
    ),
    "nitro": Verb(
        "diffgen.config.nitro:NitroConfig",
        "diffgen.commands.nitro.command:nitro",
        "distil a model into one that draws in a single step",
    ),
    "ema": Verb(
        "diffgen.config.ema_after:EMAAfterConfig",
        "diffgen.commands.ema_after:ema_after",
        "rebuild averaged weights of another width",
    ),
    "status": Verb(
        "diffgen.config.status:StatusConfig",
        "diffgen.commands.status:status",
        "tell where a run stands",
    ),
    "sample": Verb(
        "diffgen.config.sample:SampleConfig", "diffgen.commands.sample:sample", "draw images"
    ),
    "joint-sample": Verb(
        "diffgen.config.joint_sample:JointSampleConfig",
        "diffgen.commands.joint_sample:joint_sample",
        "draw images and conditions jointly, or either from the other",
    ),
    "eval": Verb(
        "diffgen.config.evaluate:EvaluateConfig", "diffgen.commands.evaluate:evaluate", "score"
    ),
    "reference": Verb(
        "diffgen.config.reference:ReferenceConfig",
        "diffgen.commands.reference:reference",
        "keep the statistics of real images",
    ),
    "compare": Verb(
        "diffgen.config.compare:CompareConfig",
        "diffgen.commands.compare:compare",
        "compare saved evaluations",
    ),
    "resolutions": Verb(
        "diffgen.config.resolutions:ResolutionsConfig",
        "diffgen.commands.resolutions:resolutions",
        "score models at several sizes",
    ),
    "guidance-sweep": Verb(
        "diffgen.config.guidance_sweep:GuidanceSweepConfig",
        "diffgen.commands.guidance_sweep:guidance_sweep",
        "score guidance rules at several scales",
    ),
    "lacon-sweep": Verb(
        "diffgen.config.lacon_sweep:LaconSweepConfig",
        "diffgen.commands.lacon_sweep.command:lacon_sweep",
        "score a model under late constraints",
    ),
    "joint-eval": Verb(
        "diffgen.config.joint_eval:JointEvalConfig",
        "diffgen.commands.joint_eval.command:joint_eval",
        "score images and maps drawn from each other",
    ),
    "nitro-eval": Verb(
        "diffgen.config.nitro_eval:NitroEvalConfig",
        "diffgen.commands.nitro_eval.command:nitro_eval",
        "score a distillation part by part",
    ),
    "evidence": Verb(
        "diffgen.config.evidence:EvidenceConfig",
        "diffgen.commands.evidence:evidence",
        "compute the verdicts of claims again",
    ),
    "memorization": Verb(
        "diffgen.config.memorization:MemorizationConfig",
        "diffgen.commands.memorization.command:memorization",
        "train on sets of N images, measure what is memorised",
    ),
    "convert": Verb(
        "diffgen.config.convert:ConvertConfig",
        "diffgen.commands.convert:convert",
        "read and write published checkpoints",
    ),
}


def main(argv: list[str] | None = None) -> int:
    """``diffgen VERB ...``; returns the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    if argv and argv[0] in VERBS:
        return launch(argv[0], argv[1:], f"diffgen {argv[0]}")
    lines = [f"  {name:16}{verb.summary}" for name, verb in VERBS.items()]
    usage = "\n".join(["usage: diffgen VERB ...", *lines, "diffgen VERB --help lists its options"])
    if argv and argv[0] in ("-h", "--help"):
        print(usage)
        return 0
    complaint = f"diffgen: {argv[0]!r} is no verb" if argv else "diffgen: a verb is needed"
    print(f"{complaint}\n{usage}", file=sys.stderr)
    return 2


def launch(verb: str, argv: list[str], prog: str) -> int:
    """Parse ``argv`` and run the command; returns the exit code.

    A user's mistake becomes one message and code 2; SIGINT and SIGTERM one line and 130 or 143.
    Of several processes, the main one alone prints what all of them met.
    """
    try:
        with signals.interruptible():
            code = _run(verb, argv, prog)
            sys.stdout.flush()
            return code
    except BrokenPipeError:  # what reads the output, as in | head, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt as error:
        stop = error if isinstance(error, Interrupted) else Interrupted(signal.SIGINT)
        left = str(stop) or "nothing was left half-written"
        _tell(f"\n{prog}: stopped by {stop.name}; {left}")
        return stop.exit_code


def _run(verb: str, argv: list[str], prog: str) -> int:
    try:
        config = parse(_load(VERBS[verb].config), argv, prog)
    except UserError as error:
        _tell(str(error), patience=10)
        return 2
    try:
        _load(VERBS[verb].action)(config)
    except SharedError as error:
        _tell(f"{prog}: {error}")
        return 2
    except UserError as error:
        print(f"{prog}: {error}", file=sys.stderr)
        return 2
    return 0


def _tell(message: str, patience: float = 0) -> None:
    """Print what all processes have to say from the main one.

    A launcher ends every process as soon as one has ended, so the others let the main one go
    first. With ``patience`` [seconds] one that is still there by then was alone, and speaks too.
    """
    main = os.environ.get("RANK", "0") == "0"
    if not main:
        time.sleep(patience)  # the launcher's SIGTERM may end it here: the main one has spoken
    with signals.ignored():
        if not main and not patience:
            time.sleep(1)
        if main or patience:
            print(message, file=sys.stderr, flush=True)


def _load(place: str) -> Any:
    module, name = place.split(":")
    return getattr(import_module(module), name)

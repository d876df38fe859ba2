"""The trainings: one after the other, and none that stands for another than was asked for."""

import json
import math
import sys
from contextlib import redirect_stdout
from io import TextIOBase
from pathlib import Path

from diffgen.commands.train import train
from diffgen.config.command_line import load
from diffgen.config.train import TrainConfig
from diffgen.errors import UserError
from diffgen.files import write_json
from diffgen.training.checkpoints import Checkpoints, seen_of
from diffgen.training.run_folder import RunFolder, differences


def train_run(run: TrainConfig, digest: str | None) -> None:
    """Train, or go on with, what ``run`` describes, without its closing words.

    Args:
        run: the training.
        digest: of the names of its images, kept in its folder; None: they have none.

    Raises:
        UserError: the folder holds a training of another length or on other images, or what
            ``train`` refuses.
    """
    newest = Checkpoints(run.out).newest()
    file = RunFolder(run.out).config
    stated = load(TrainConfig, file) if newest and file.exists() else None
    if newest:
        check_length(run, seen_of(newest), stated)
    another = stated is not None and any(differences(stated, run))  # train tells in what
    if digest is not None and not another:
        keep_names(run.out, digest, begun=newest is not None)
    with redirect_stdout(Opening()):
        train(run)


def check_length(run: TrainConfig, seen: int, stated: TrainConfig | None) -> None:
    """Refuse to go on with a training of another length.

    By itself a training may be made longer. Here its learning rate would have fallen to an end of
    its own on the way, and that of a model for another N would not.

    Args:
        run: what is asked for.
        seen: images that its newest checkpoint has seen.
        stated: what the run in its folder was asked for; None: that is not there.
    """
    wanted, size = run.train.images, run.train.batch_size
    if stated is not None and stated.train.images != wanted:
        raise UserError(
            f"train.images: {run.out} is a training of {stated.train.images:,} images, not of "
            f"{wanted:,}; take that many, or choose another --out"
        )
    if seen > size * math.ceil(wanted / size):
        raise UserError(
            f"train.images: {run.out} has seen {seen:,} images, more than {wanted:,}; choose "
            "another --out"
        )


def keep_names(run: Path, digest: str, begun: bool) -> None:
    """Store which images a run is trained on; one that has begun without that is taken.

    Raises:
        UserError: it has begun on others.
    """
    if begun and stored_digest(run) not in (None, digest):
        raise UserError(
            f"data: {run} was trained on other images: files were added to the folder, removed or "
            "renamed since; undo that, or choose another --out"
        )
    write_json(names_file(run), {"names": digest})


def names_file(run: Path) -> Path:
    """Which images a run was trained on."""
    return run / "images.json"


def stored_digest(run: Path) -> str | None:
    """What ``names_file`` says; None: there is none that can be read."""
    try:
        digest = json.loads(names_file(run).read_text(encoding="utf-8"))["names"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return str(digest)


class Opening(TextIOBase):
    """Passes on what a training prints, but not its closing words: they are for a single one."""

    def __init__(self) -> None:
        self.out, self.closing = sys.stdout, False

    def write(self, text: str) -> int:
        """As a stream's; ``draw_report`` begins with "pictures"."""
        self.closing |= text.startswith("\npictures")
        return len(text) if self.closing else self.out.write(text)

    def flush(self) -> None:
        """As a stream's."""
        self.out.flush()

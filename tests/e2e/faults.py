"""Commands that a fault stops, and what must be the same once they have been run again."""

import json
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.forked import ROOT, Running
from tests.tiny import build

OUT = "run"
"""Where every command here writes, in a folder of its own."""
TRAIN = (
    *("train", "--config", str(ROOT / "configs/debug.yaml"), "--ema.kind", "power"),
    *("--train.images", "768", "--train.checkpoint-images", "128", "--report.sizes", "16x16"),
)
"""24 steps, a checkpoint every four: half a second, after which it draws and scores."""
DRAW = ("--num-images", "24", "--batch-size", "4", "--steps", "4", "--device", "cpu")
COMMANDS = {
    "train": (*TRAIN, "--out", OUT),
    "sample": ("sample", "MODEL", *DRAW, "--size", "16x16", "--size", "24x16", "--out", OUT),
    "eval": (
        *("eval", "MODEL", *DRAW, "--size", "16x16"),
        *("--save", f"{OUT}/drawn", "--out", f"{OUT}/scores.json"),
    ),
    "prepare": (
        *("prepare", "--data.kind", "shapes", "--data.size", "16x16", "--data.subset", ":64"),
        *("--vae.path", "VAE", "--shard-images", "8", "--vae.batch-size", "4", "--out", OUT),
    ),
}
"""By verb; MODEL and VAE stand for folders."""
MEASURED = ("images_per_second", "memory_gib", "tflops", "mfu")
"""What a clock or the machine has a say in, in metrics.jsonl."""


def started(
    command: tuple[str, ...], folder: Path, fault: str = "never", world: int = 1
) -> Running:
    """``diffgen`` with ``command`` and an ``--out``, in ``folder``."""
    return Running("tests/e2e/killable.py", fault, *command, folder=folder, world=world)


@dataclass(frozen=True)
class Undisturbed:
    """A command that ran to its end in ``folder``."""

    command: tuple[str, ...]
    folder: Path
    world: int = 1

    @classmethod
    def run(cls, command: tuple[str, ...], folder: Path, world: int = 1) -> "Undisturbed":
        """Run it."""
        running = started(command, folder, world=world)
        assert running.codes == [0] * world, running.said
        return cls(command, folder, world)

    @property
    def touched(self) -> list[str]:
        """Everything it opened, made, renamed or removed, in turn."""
        return self._measured["touched"]

    @property
    def seconds(self) -> float:
        """It took."""
        return self._measured["seconds"]

    @property
    def _measured(self) -> dict[str, Any]:
        return json.loads((self.folder / "measured.json").read_text())

    def started(self, folder: Path, fault: str = "never") -> Running:
        """The same command in another folder."""
        return started(self.command, folder, fault, self.world)

    def assert_again(self, folder: Path) -> str:
        """The same command in ``folder`` now ends in the same files; what it said."""
        running = self.started(folder)
        assert running.codes == [0] * self.world, running.said
        assert_same(folder / OUT, self.folder / OUT)
        return running.said[0]


_done: dict[str, Undisturbed] = {}


def undisturbed_of(
    verb: str, make_vae: Callable[[], Path], folders: pytest.TempPathFactory
) -> Undisturbed:
    """``COMMANDS[verb]`` on a tiny model or autoencoder, run in a folder of its own, once."""
    if verb in _done:
        return _done[verb]
    command = COMMANDS[verb]
    if "MODEL" in command:
        model = folders.mktemp("model") / "tiny"
        build().save_pretrained(model)
        command = _with(command, "MODEL", model)
    if "VAE" in command:
        command = _with(command, "VAE", make_vae())
    return _done.setdefault(verb, Undisturbed.run(command, folders.mktemp(verb)))


def _with(command: tuple[str, ...], name: str, path: Path) -> tuple[str, ...]:
    return tuple(str(path) if word == name else word for word in command)


def assert_same(one: Path, other: Path) -> None:
    """Two folders hold the same files with the same bytes, but for what a clock measured."""
    mine, theirs = contents(one), contents(other)
    lacking, more = theirs.keys() - mine.keys(), mine.keys() - theirs.keys()
    assert not lacking | more, f"lacks {sorted(lacking)}, has besides {sorted(more)}"
    differing = [name for name in mine if mine[name] != theirs[name]]
    assert not differing, f"{differing} differ"


def contents(folder: Path) -> dict[str, Any]:
    """Every file below ``folder``, with those that begin with a dot."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): _content(path, folder) for path in files}


def _content(file: Path, folder: Path) -> Any:
    if file.suffix != ".jsonl":
        return file.read_bytes().replace(str(folder).encode(), b"")  # a table's name of itself
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in MEASURED} for line in lines]


def newest(folder: Path) -> int:
    """Images seen at the last checkpoint of the training in ``folder``; 0: there is none."""
    found = (folder / OUT / "checkpoints").glob("images-*")
    return max((int(path.name.removeprefix("images-")) for path in found), default=0)


def kill_after(running: Running, seconds: float) -> None:
    """kill -9, unless it has ended before."""
    running.processes[0].join(seconds)
    if running.running:
        running.signal(signal.SIGKILL)


def children(pid: int) -> list[int]:
    """Processes that process ``pid`` has started, oldest first."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(entry.read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has ended just now
            continue
        if parent == pid:
            found.append(int(entry.parent.name))
    return sorted(found)

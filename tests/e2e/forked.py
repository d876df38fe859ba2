"""Scripts in real processes of their own, forked from one that has imported torch already.

Starting Python with torch takes over ten seconds; a fork takes none, and is as real for signals,
exit codes and gloo.
"""

import multiprocessing
import os
import runpy
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    ["diffgen.commands.train", "diffgen.commands.sample", "diffgen.commands.evaluate"]
)


def _run(script: str, argv: list[str], folder: Path, said: Path, environment: dict) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):  # as in a terminal, however pytest was started
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.setsid()
    os.chdir(folder)
    os.environ.update(environment, OMP_NUM_THREADS="1")  # as torchrun sets it
    descriptor = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    import torch

    torch.set_num_threads(1)
    sys.argv = [script, *argv]
    runpy.run_path(str(ROOT / script), run_name="__main__")


class Running:
    """``script argv`` in ``world`` processes."""

    def __init__(self, script: str, *argv: str, folder: Path, world: int = 1) -> None:
        self.said_in = [folder / f"said-{time.monotonic_ns()}-{rank}" for rank in range(world)]
        self.processes = []
        for rank, said in enumerate(self.said_in):
            environment = launched(rank, world) if world > 1 else {}
            order = {"ORDER": (script, list(argv), folder, said, environment)}
            # A name every process can import, whatever pytest calls this module.
            self.processes.append(
                CONTEXT.Process(target=runpy.run_path, args=(__file__, order, "__forked__"))
            )
        for process in self.processes:
            process.start()

    def signal(self, number: int, rank: int | None = None) -> None:
        for process in self.processes if rank is None else [self.processes[rank]]:
            os.kill(process.pid, number)

    def until(self, happened: Callable[[], Any]) -> None:
        """Wait for something; fail, and leave no process behind, if it does not come."""
        deadline = time.monotonic() + 120
        while not happened():
            if not self.running or time.monotonic() > deadline:
                for process in self.processes:
                    process.kill()
                raise AssertionError(f"what was waited for did not come: {self.said}")
            time.sleep(0.005)

    @property
    def running(self) -> bool:
        return all(process.is_alive() for process in self.processes)

    @property
    def codes(self) -> list[int]:
        """Exit codes, when all have ended; fails if one hangs."""
        for process in self.processes:
            process.join(120)
        found = [process.exitcode for process in self.processes]
        for process in self.processes:
            process.kill()
        return found

    @property
    def said(self) -> list[str]:
        """What each process printed, without progress bars."""
        texts = [path.read_text() if path.exists() else "" for path in self.said_in]
        return ["\n".join(kept for kept in _lines(text)) for text in texts]


def _lines(text: str) -> list[str]:
    lines = text.replace("\r", "\n").split("\n")
    return [line for line in lines if line.strip() and "img/s" not in line and "s/img" not in line]


_ports: dict[str, str] = {}


def launched(rank: int, world: int) -> dict[str, str]:
    """The environment a launcher gives to process ``rank``."""
    if rank == 0:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            _ports["newest"] = str(free.getsockname()[1])
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(world),
        "LOCAL_WORLD_SIZE": str(world),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": _ports["newest"],
        "ACCELERATE_USE_CPU": "true",
    }


if __name__ == "__forked__":
    _run(*ORDER)  # type: ignore[name-defined]  # noqa: F821

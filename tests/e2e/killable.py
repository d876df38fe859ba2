"""``diffgen VERB ...`` under a fault: ``FAULT VERB ...``, with one of three faults.

``never``: none; what was touched and the seconds taken are left in ``measured.json``.
``touch:N``: kill -9 when a file below the working directory is touched for the N-th time: just
before it is made, renamed or removed, or just after it was opened, when nothing is written yet.
``largest:N``: the operating system lets no file grow beyond N bytes.
"""

import json
import multiprocessing
import os
import resource
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from diffgen.cli import main

TOUCHING = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "shutil.rmtree")


class Touched:
    """Lists the files that are touched, and kills this process at number ``fatal``."""

    def __init__(self, fatal: int | None) -> None:
        self.files: list[str] = []
        self.fatal = fatal
        self.place = os.getcwd()

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        """One of Python's audit events."""
        if event not in TOUCHING or not isinstance(arguments[0], str | os.PathLike):
            return
        if os.path.abspath(arguments[0]).startswith(self.place):
            self.files.append(f"{event} {arguments[0]}")
            if len(self.files) == self.fatal:
                with suppress(OSError):  # what is only looked for need not be there
                    if event == "open":
                        os.open(arguments[0], arguments[2])
                os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    multiprocessing.set_start_method("fork", force=True)  # as in a Python that was just started
    fault, _, number = sys.argv[1].partition(":")
    touched = Touched(int(number) if fault == "touch" else None)
    sys.addaudithook(touched)
    if fault == "largest":
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(number), resource.RLIM_INFINITY))
    begun = time.monotonic()
    code = main(sys.argv[2:])
    measured = {"touched": touched.files, "seconds": time.monotonic() - begun}
    if fault == "never":
        Path("measured.json").write_text(json.dumps(measured))
    sys.exit(code)

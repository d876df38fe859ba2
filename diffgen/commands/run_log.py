"""A run seen from outside, while it may be written: the end of its log, and its lock."""

import json
import math
import os
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

from diffgen.files import fcntl

TAIL = 2**18
"""Of a long log only this end is read [bytes]."""
WINDOW = 10
"""Lines that a speed or a mean loss is of."""


def last_lines(file: Path) -> list[dict[str, Any]]:
    """The whole lines at the end of a file of JSON lines, none where there is no file.

    A line that is still being written, or is damaged, is passed over.
    """
    try:
        with file.open("rb") as content:
            start = max(0, content.seek(0, os.SEEK_END) - TAIL)
            content.seek(start)
            text = content.read().decode("utf-8", errors="replace")
    except OSError:
        return []
    found = []
    for line in text.split("\n")[1 if start else 0 :]:
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict) and isinstance(value.get("images"), int):
            found.append(value)
    return found


def held_by_another(folder: Path) -> bool | None:
    """Whether a process on this machine holds the lock of ``folder``; None: locks are not known.

    It is tried by a shared lock that is let go at once; nothing is made or written.
    """
    if fcntl is None:
        return None
    try:
        with (folder / ".lock").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    except OSError:
        return None
    return False


def images_per_second(found: Sequence[dict[str, Any]]) -> float | None:
    """Over the last lines, each of as many images: the harmonic mean; None: not known."""
    speeds = [line["images_per_second"] for line in found[-WINDOW:] if "images_per_second" in line]
    if not speeds or min(speeds) <= 0:
        return None
    return len(speeds) / sum(1 / speed for speed in speeds)


def trend(losses: Sequence[float]) -> dict[str, Any] | None:
    """The last loss, and its mean over the last lines beside that over as many before them.

    Returns:
        ``last``, ``recent``, ``before`` and ``trend``: falling or rising where the means are more
        than two standard errors of their difference apart, else level; the last three None with
        fewer than 3 lines on either side. The scatter of a line is told from its neighbours (von
        Neumann 1941), so that a slope does not pass for scatter. None: nothing is logged.
    """
    if not losses:
        return None
    found: dict[str, Any] = {"last": losses[-1], "recent": None, "before": None, "trend": None}
    count = min(WINDOW, len(losses) // 2)
    if count < 3:
        return found
    recent, before = losses[-count:], losses[-2 * count : -count]
    found |= {"recent": fmean(recent), "before": fmean(before)}
    both = [*before, *recent]
    scatter = fmean((b - a) ** 2 / 2 for a, b in pairwise(both))
    error = math.sqrt(2 * scatter / count)
    difference = found["recent"] - found["before"]
    apart = abs(difference) > 2 * error
    return found | {"trend": ("falling" if difference < 0 else "rising") if apart else "level"}

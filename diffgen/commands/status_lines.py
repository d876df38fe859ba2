"""Where a run stands, in lines to read."""

from collections.abc import Iterator
from typing import Any

from diffgen.metrics.shown import shown

Facts = dict[str, Any]
HELD = {
    True: "a process holds it",
    False: "no process on this machine holds it",
    None: "whether a process holds it is not known here",
}


def lines(found: Facts) -> Iterator[str]:
    """A heading, and a line a fact that is known."""
    stage = f", stage {found['stage']}" if found.get("stage") else ""
    yield f"{found['run']}: {found['kind']}{stage}, {found['state']}; {HELD[found['held']]}"
    parts = _prepared(found) if found["kind"] == "prepare" else _training(found)
    for name, text in parts:
        yield f"  {name:13}{text}"


def _prepared(found: Facts) -> Iterator[tuple[str, str]]:
    images = found["images"]
    of = f" of {images['total']:,}" if images["total"] else ""
    damaged = f", {images['skipped']:,} damaged left out" if images["skipped"] else ""
    yield "images", f"{images['seen']:,}{of} encoded, in {_many(found['shards'], 'file')}{damaged}"
    for file in found["damaged"]:
        yield "damaged", f"{file}: missing or cut short; the same prepare command mends it"
    if found["last_line_age"] is not None:
        yield "last written", f"{duration(found['last_line_age'])} ago"


def _training(found: Facts) -> Iterator[tuple[str, str]]:
    yield "images", _images(found["images"])
    if found["loss"]:
        yield "loss", _loss(found["loss"])
    yield from _speed(found)
    if found["last_line_age"] is not None:
        yield "last line", f"{duration(found['last_line_age'])} ago"
    saved = found["checkpoints"]
    yield "checkpoints", _stored(saved) + _milestones(saved["milestones"])
    for fault in saved["damaged"]:
        yield "damaged", f"checkpoints/{fault}"
    yield "snapshots", _stored(found["snapshots"])
    yield "pipeline", "exported" if found["pipeline"] else "none yet"
    if found["validation"]:
        yield "validation", _validation(found["validation"])
    for one in found["evaluations"]:
        fid = "-" if one["fid"] is None else shown("fid", one["fid"], one["interval"])
        counted = f"{one['images']:,} images against {one['reference']}"
        yield "evaluation", f"{one['file']}: FID {fid}, {counted}"


def _images(images: Facts) -> str:
    if not images["total"]:
        return f"{images['seen']:,}"
    return f"{images['seen']:,} of {images['total']:,} ({images['share']:.1%})"


def _loss(loss: Facts) -> str:
    if loss["trend"] is None:
        return f"{loss['last']:.4f}"
    means = f"mean {loss['recent']:.4f} of the last lines, {loss['before']:.4f} before"
    return f"{loss['last']:.4f}, {loss['trend']} ({means})"


def _speed(found: Facts) -> Iterator[tuple[str, str]]:
    line, speed, left = found["last_line"], found["images_per_second"], found["seconds_left"]
    if speed is None:
        return
    by = f" by {_many(line['processes'], 'process')}" if "processes" in line else ""
    more = [f"{line[name]:g} {unit}" for name, unit in UNITS.items() if line.get(name) is not None]
    yield "speed", ", ".join([f"{speed:,.1f} images/s{by}", *more])
    if left:
        yield "left", f"about {duration(left)} at this speed, without measures and previews"


UNITS = {"memory_gib": "GiB", "tflops": "TFLOP/s", "mfu": "MFU"}


def _stored(stored: Facts) -> str:
    count, newest = stored["count"], stored["newest"]
    return f"{count}, the newest at {newest:,} images" if count else "none"


def _milestones(times: list[int]) -> str:
    return f"; milestones at {', '.join(f'{seen:,}' for seen in times)}" if times else ""


def _validation(line: Facts) -> str:
    """Every number of the last line; curves of several are left to JSON."""
    numbers = {name: value for name, value in line.items() if isinstance(value, int | float)}
    seen = numbers.pop("images")
    told = ", ".join(f"{name} {value:.4g}" for name, value in numbers.items())
    return f"at {seen:,} images: {told}"


def _many(count: int, what: str) -> str:
    plural = f"{what}es" if what.endswith("s") else f"{what}s"
    return f"{count:,} {what if count == 1 else plural}"


def duration(seconds: float) -> str:
    """In its two largest units: 3 d 4 h, 2 h 5 min, 1 min 30 s, 12 s."""
    whole = round(seconds)
    for size, name, part, below in ((86400, "d", 3600, "h"), (3600, "h", 60, "min")):
        if whole >= size:
            return f"{whole // size} {name} {whole % size // part} {below}"
    return f"{whole // 60} min {whole % 60} s" if whole >= 60 else f"{whole} s"

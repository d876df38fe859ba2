"""``diffgen status``: where a run stands, read from its files alone, without torch.

Nothing is written and no command is disturbed: a lock is only tried, and a line that is being
written is passed over.
"""

import json
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from diffgen.commands.run_log import held_by_another, images_per_second, last_lines, trend
from diffgen.commands.status_lines import lines
from diffgen.config.status import Kind, StatusConfig, kind_of_run, settings_of
from diffgen.config.stored import read_json
from diffgen.errors import UserError
from diffgen.training.checkpoints import MILESTONE, Checkpoints, damage, seen_of

SCHEMA = "diffgen-status/1"
Facts = dict[str, Any]


def status(config: StatusConfig) -> None:
    """Print where a run stands.

    Raises:
        UserError: the folder is no run.
    """
    found = facts_of(config.run)
    print(json.dumps(found, indent=2) if config.as_json else "\n".join(lines(found)))


def facts_of(run: Path) -> Facts:
    """All that is printed, as JSON holds it; None: not known.

    Raises:
        UserError: the folder is no run.
    """
    kind = kind_of_run(run, "run")
    held = held_by_another(run)
    facts: Facts = {"schema": SCHEMA, "run": str(run), "kind": kind, "held": held}
    if kind == "prepare":
        return facts | _prepared(run, bool(held))
    return facts | _training(run, kind, bool(held))


def _training(run: Path, kind: Kind, held: bool) -> Facts:
    settings = settings_of(run)
    stage, folder, loop = None, run, settings["train"]
    if kind == "nitro":
        stage, folder, loop = _stage(run, settings)
    total = _total(loop)
    log = folder / "metrics.jsonl"
    found = last_lines(log)
    checkpoints = _checkpoints(folder)
    newest = checkpoints["newest"] or 0
    seen = max(found[-1]["images"] if found else 0, newest)
    speed = images_per_second(found)
    left = (total - seen) / speed if speed and total else None
    return {
        "stage": stage,
        "state": _state(seen, newest, total, held, stage),
        "images": {"seen": seen, "total": total, "share": seen / total if total else None},
        "loss": trend([line["loss"] for line in found if "loss" in line]),
        "images_per_second": speed,
        "seconds_left": left,
        "last_line": found[-1] if found else None,
        "last_line_age": _age(log),
        "checkpoints": checkpoints,
        "snapshots": _numbers(folder.glob("snapshots/*.safetensors")),
        "pipeline": (run / "pipeline" / "model_index.json").exists(),
        "validation": next(iter(last_lines(folder / "validation.jsonl")[-1:]), None),
        "evaluations": list(_evaluations(run)),
    }


def _stage(run: Path, settings: Facts) -> tuple[str, Path, Facts]:
    """The stage a distillation is in, its folder and its loop."""
    regression = run / "regression"
    if (run / "metrics.jsonl").exists() or (regression / "pipeline").exists():
        return "adversarial", run, settings["train"]
    begun = regression.exists()
    return "regression" if begun else "pairs", regression, settings["regression"]["train"]


def _total(loop: Facts) -> int | None:
    """Images of the whole training: batches are whole."""
    images, batch = loop.get("images"), loop.get("batch_size")
    return batch * math.ceil(images / batch) if images and batch else None


def _state(seen: int, newest: int, total: int | None, held: bool, stage: str | None) -> str:
    if held:
        return "running"
    if total is not None and newest >= total and stage in (None, "adversarial"):
        return "finished"
    return "stopped" if seen else "not begun"


def _checkpoints(run: Path) -> Facts:
    every = Checkpoints(run).all()
    times = [seen_of(path) for path in every]
    kept = [seen_of(path) for path in every if (path / MILESTONE).exists()]
    faults = [fault for path in every if (fault := _fault(path))]
    aside = sorted(path.name for path in (run / "checkpoints").glob("damaged-*"))
    return {
        "count": len(times),
        "newest": times[-1] if times else None,
        "milestones": kept,
        "damaged": faults + [f"{name}: set aside" for name in aside],
    }


def _fault(checkpoint: Path) -> str | None:
    """What the sizes of its files tell; their contents, which take long to read, may tell more."""
    fault = damage(checkpoint, contents=False)
    if fault is None or not checkpoint.exists():  # by now the training may have removed it
        return None
    return f"{checkpoint.name}: {fault}"


def _numbers(files: Iterator[Path]) -> Facts:
    """Of files that are named by the images seen."""
    times = sorted(int(file.stem) for file in files if file.stem.isdigit())
    return {"count": len(times), "newest": times[-1] if times else None}


def _evaluations(run: Path) -> Iterator[Facts]:
    """The evaluations in the run's folder, and of averages rebuilt beside its pipeline."""
    for file in sorted([*run.glob("evaluation-*.json"), *run.glob("ema-*/evaluation-*.json")]):
        try:
            found = read_json(file, "run", "")
            yield {
                "file": str(file.relative_to(run)),
                "fid": found["scores"]["fid"],
                "interval": (found.get("intervals") or {}).get("fid"),
                "reference": found["settings"]["reference"],
                "images": found["counts"]["images"],
                "age": _age(file),
            }
        except (UserError, KeyError, TypeError):  # being replaced, or none of ours
            continue


def _prepared(folder: Path, held: bool) -> Facts:
    """A folder of latents: every shard that is finished has a note beside it."""
    whole = (folder / "index.json").exists()
    read = (_read(file) or {} for file in folder.glob("*/shard-*.json"))
    notes = [note for note in read if "entry" in note]
    counts = [found["entry"]["count"] for found in notes]
    skipped = sum(len(found.get("skipped", {})) for found in notes)
    damaged = sorted(e["file"] for found in notes if not _whole(folder, e := found["entry"]))
    of = ((_read(folder / "settings.json") or {}).get("images") or {}).get("count")
    return {
        "state": "running" if held else "finished" if whole else "stopped",
        "images": {"seen": sum(counts), "skipped": skipped, "total": of},
        "shards": len(counts),
        "damaged": damaged,
        "last_line_age": min((_age(file) or 0 for file in folder.rglob("shard-*")), default=None),
    }


def _whole(folder: Path, entry: Facts) -> bool:
    """The file of latents is there and as long as it was written."""
    file = folder / entry["file"]
    return file.is_file() and file.stat().st_size == entry["bytes"]


def _read(file: Path) -> Facts | None:
    return _or_none(lambda: read_json(file, "run", ""))


def _age(file: Path) -> float | None:
    """Since it was last written [seconds]."""
    return _or_none(lambda: max(0.0, time.time() - file.stat().st_mtime))


def _or_none(read: Callable[[], Any]) -> Any:
    try:
        return read()
    except (OSError, UserError):
        return None

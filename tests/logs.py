"""What a training wrote down, without what a clock or the machine had a say in."""

import json
from pathlib import Path
from typing import Any

MEASURED = {"images_per_second", "memory_gib", "tflops", "mfu"}


def curve(run: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in MEASURED} for line in lines]

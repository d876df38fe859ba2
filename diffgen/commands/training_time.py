"""How long a training took."""

from pathlib import Path

from diffgen.training.run_folder import RunFolder


def seconds(folder: Path) -> float | None:
    """Of a training, by its log: what the images between two lines took; None: it tells not."""
    run = RunFolder(folder)
    if not run.metrics.is_file():
        return None
    total, before = 0.0, 0
    for line in run.lines():
        if not line["images_per_second"]:  # slower than the log's last digit
            return None
        total += (line["images"] - before) / line["images_per_second"]
        before = line["images"]
    return total
